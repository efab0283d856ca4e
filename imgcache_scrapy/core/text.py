"""Show URLs and other texts of strangers in log lines and messages."""

import re

# Longer texts are cut before they are searched.
_MAX_CHARACTERS = 10_000
# A password may contain white space. Some messages name the host of a URL with its user and
# password, but without its scheme: a match begins only where a word begins. No part is searched
# twice, so the time is linear.
_CREDENTIALS = re.compile(
    r"(?<=://)(?:[^/?#\s]*|[^/?#\s:]*:[^/?#]*)@|(?<![^\s/@]):*+[^\s/:@]++:[^\s/@]++@"
)


def printable(text: object) -> str:
    """Return a text for one line of a log: without credentials, with escapes for odd characters.

    Args:
        text: an object; its string is shown.

    Returns:
        The text without the user and the password of each URL in it. Line breaks, control
        characters and lone surrogates are escaped.
    """
    shown = str(text)[:_MAX_CHARACTERS]
    if "@" in shown:
        shown = _CREDENTIALS.sub("", shown)
    if shown.isprintable():
        return shown
    return "".join(map(_escaped, shown))


def reason_of(error: Exception) -> str:
    """Return the text of an error: of an OSError in plain words, with the file if it is known."""
    if not isinstance(error, OSError) or error.strerror is None:
        return printable(error)
    reason = "a file is in its place" if isinstance(error, FileExistsError) else error.strerror
    # Of a file that gets another name, the second one is known to the user.
    name = error.filename2 or error.filename
    return reason if name is None else f"{printable(name)} cannot be used: {reason}"


def quoted(text: object, max_characters: int = 80) -> str:
    """Return the start of a printable text in quotation marks."""
    return f"'{printable(text)[:max_characters]}'"


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()
