"""Say in an address what an act has done, and say it to people."""

import re

ACTS = ("delete", "block", "unblock")
"""The acts of the page."""

_DONE = {"delete": "deleted", "block": "blocked", "unblock": "allowed again"}
_RESULT = re.compile(rf"({'|'.join(ACTS)})\.([0-9]{{1,4}})\.([0-9]{{1,4}})")


def result(act: str, done: int, skipped: int) -> str:
    """Return the parameter `done` of an address, for an act on some pictures."""
    return f"{act}.{done}.{skipped}"


def result_of(parameter: str | None) -> str | None:
    """Return the sentence for the parameter `done`; None if it has another form."""
    match = None if parameter is None else _RESULT.fullmatch(parameter)
    if match is None:
        return None
    act, done, skipped = match[1], int(match[2]), int(match[3])
    sentence = f"{done} {'picture' if done == 1 else 'pictures'} {_DONE[act]}."
    why = "blocked" if act == "unblock" else "there"
    missing = f" {skipped} {'was' if skipped == 1 else 'were'} not {why}." if skipped else ""
    return sentence + missing
