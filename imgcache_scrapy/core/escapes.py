"""Percent-encoding: write each escape of a URL in one way."""

import re

# A "%" that begins no escape could become one if an escape after it were decoded.
_ESCAPE = re.compile(r"(%[0-9A-Fa-f]?(?=%))?(%[0-9A-Fa-f]{2})")
_UNRESERVED = {
    escape: chr(code)
    for code in range(128)
    if chr(code).isalnum() or chr(code) in "-._~"
    for escape in (f"%{code:02X}", f"%{code:02x}")
}


def with_short_escapes(text: str) -> str:
    """Decode unreserved characters, and write the digits of other escapes in upper case."""
    return _ESCAPE.sub(_short_escape, text) if "%" in text else text


def _short_escape(match: re.Match[str]) -> str:
    stray, escape = match.groups()
    if stray is not None:
        return f"{stray}{escape.upper()}"
    return _UNRESERVED.get(escape) or escape.upper()
