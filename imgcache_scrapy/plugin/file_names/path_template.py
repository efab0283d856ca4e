"""PathTemplate: the path of a picture's file, made from the values of its item; pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any, Self

from imgcache_scrapy.core.errors import ConfigurationError

MAX_PART_BYTES = 120
"""Size of the longest part of a path, in bytes of UTF-8."""

_MAX_LITERAL_BYTES = 60
_FIELD = re.compile(r"item\[(?P<name>[^\[\]]+)\]|index|ext")
_WIDTH = re.compile(r"0[1-9]d?")
# Separators, the colon of a Windows drive, control characters, and what UTF-8 cannot have.
_REMOVED = re.compile(r"[/\\:\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_START = re.compile(r"[\s.]+")
_EMPTY = "_"
_EXTENSION = re.compile(r"(?<=.)\.[A-Za-z0-9]{1,8}$")
# On Windows these are devices, with any extension.
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?=\s*(\.|$))", re.IGNORECASE)
_HINT = "use {item[name of a field]}, {index} and {ext}"


class NoValueError(ValueError):
    """The item has no value for a field of the template; the message names the field."""


@dataclass(frozen=True)
class _Piece:
    """A piece of a part: a text, or a field with its format.

    Attributes:
        text: the text, or the name of the item's field; empty for the index and the extension.
        kind: `text`, `item`, `index` or `ext`.
        spec: the format of the index.
    """

    text: str
    kind: str = "text"
    spec: str = ""


@dataclass(frozen=True)
class PathTemplate:
    """A checked template, such as `{item[category]}/{item[sku]}-{index}.{ext}`.

    Attributes:
        parts: the pieces of each part of the path.
    """

    parts: tuple[tuple[_Piece, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a template.

        Raises:
            ConfigurationError: it is not valid, or its paths could leave the store.
        """
        parts: list[list[_Piece]] = [[]]
        for piece in _pieces(text):
            is_text = piece.kind == "text"
            pieces = [_Piece(text) for text in piece.text.split("/")] if is_text else [piece]
            parts[-1].append(pieces[0])
            parts.extend([other] for other in pieces[1:])
        kept = tuple(tuple(p for p in part if p.kind != "text" or p.text) for part in parts)
        for part in kept:
            _check_part(part)
        return cls(kept)

    def values(self, item: Mapping[str, Any]) -> dict[str, str]:
        """Return the cleaned values of an item's fields, by the name of the field.

        Raises:
            NoValueError: the item has no single value for a field.
        """
        names = {piece.text for part in self.parts for piece in part if piece.kind == "item"}
        return {name: clean(_single_value(item, name)) for name in sorted(names)}

    def render(self, values: Mapping[str, str], index: int, extension: str, number: int = 1) -> str:
        """Return the path of a picture, relative to the store.

        Args:
            values: the result of `values`.
            index: position of the picture in its item, from 1.
            extension: the extension of the file, without the dot.
            number: 1, or the number of the picture among those with this path.
        """
        texts = [
            [_Text(_shown(piece, values, index, extension), piece.kind == "item") for piece in part]
            for part in self.parts
        ]
        folders = [_fitted(part) for part in texts[:-1]]
        stem, tail = _split_tail(self.parts[-1], texts[-1])
        suffix = [] if number == 1 else [_Text(f"-{number}")]
        return "/".join([*folders, _fitted([*stem, *suffix], tail)])


@dataclass
class _Text:
    text: str
    is_value: bool = False


def clean(value: str) -> str:
    """Return a value without what could leave the folder: `_` if nothing is left.

    It loses path separators, colons, control characters, surrogates, dots and white space at its
    start, and white space at its end.
    """
    kept = _REMOVED.sub("", value).rstrip()
    start = _START.match(kept)
    return kept[start.end() if start else 0 :] or _EMPTY


def _pieces(text: str) -> Iterator[_Piece]:
    if not text:
        raise ConfigurationError(_HINT)
    try:
        parsed = list(Formatter().parse(text))
    except ValueError as error:
        raise ConfigurationError(f"{error}; {_HINT}") from error
    for literal, field, spec, conversion in parsed:
        yield _Piece(literal)
        if field is not None:
            yield _field_piece(field, spec or "", conversion)


def _field_piece(field: str, spec: str, conversion: str | None) -> _Piece:
    match = _FIELD.fullmatch(field)
    if match is None:
        raise ConfigurationError(f"{{{field}}} is not known; {_HINT}")
    name = match["name"]
    if conversion or (spec and (field != "index" or not _WIDTH.fullmatch(spec))):
        raise ConfigurationError(
            f"{{{field}}} has a format, and only {{index:01}} to {{index:09}} may have one"
        )
    return _Piece(name, "item") if name else _Piece("", field, spec)


def _check_part(part: tuple[_Piece, ...]) -> None:
    literal = "".join(piece.text for piece in part if piece.kind == "text")
    if not part or (not literal.strip(" .") and all(piece.kind == "text" for piece in part)):
        raise ConfigurationError("a path is relative, and no part of it is empty, '.' or '..'")
    if _REMOVED.search(literal):
        raise ConfigurationError("a path has no backslash, colon or control character")
    if len(literal.encode()) > _MAX_LITERAL_BYTES:
        raise ConfigurationError(f"a part of it has more than {_MAX_LITERAL_BYTES} bytes of text")


def _single_value(item: Mapping[str, Any], name: str) -> str:
    value = item.get(name)
    if isinstance(value, (list, tuple)) and len(value) == 1:  # As an item loader leaves it.
        value = value[0]
    if value is None:
        raise NoValueError(f"the item has no value in its field {name!r}, which IMGCACHE_PATH uses")
    if isinstance(value, (list, tuple, set, frozenset, dict, bytes, bytearray)):
        kind = type(value).__name__
        raise NoValueError(f"the item's field {name!r}, which IMGCACHE_PATH uses, is a {kind}")
    return str(value)


def _shown(piece: _Piece, values: Mapping[str, str], index: int, extension: str) -> str:
    if piece.kind == "item":
        return values[piece.text]
    if piece.kind == "index":
        return format(index, piece.spec)
    return extension if piece.kind == "ext" else piece.text


def _split_tail(part: tuple[_Piece, ...], texts: list[_Text]) -> tuple[list[_Text], str]:
    """Split the last part before its extension, which a number or a cut must not touch."""
    start = len(part)
    while start and part[start - 1].kind in {"text", "ext"}:
        start -= 1
    before, dot, after = "".join(text.text for text in texts[start:]).rpartition(".")
    if dot:
        return [*texts[:start], _Text(before)], dot + after
    last = texts[-1]
    match = _EXTENSION.search(last.text)  # The item's value is the name of a file.
    if match is None:
        return texts, ""
    return [*texts[:-1], _Text(last.text[: match.start()], last.is_value)], match[0]


def _fitted(texts: list[_Text], tail: str = "") -> str:
    """Join the texts of a part; if it is too long, cut the longest values and keep the rest."""
    whole = "".join(text.text for text in texts)
    if _size(whole) + _size(tail) > MAX_PART_BYTES:
        whole = _cut_values(texts, MAX_PART_BYTES - _size(tail))
    part = whole + tail
    return _RESERVED.sub(r"\1_", part, count=1) if _RESERVED.match(part) else part


def _cut_values(texts: list[_Text], room: int) -> str:
    sizes = [_size(text.text) for text in texts if text.is_value]
    room_for_values = room - sum(_size(text.text) for text in texts if not text.is_value)
    limits = range(MAX_PART_BYTES, 1, -1)
    fits = (limit for limit in limits if sum(min(n, limit) for n in sizes) <= room_for_values)
    limit = next(fits, 1)
    shown = (_cut(text.text, limit) if text.is_value else text.text for text in texts)
    return _cut("".join(shown), room)


def _size(text: str) -> int:
    return len(text.encode())


def _cut(text: str, max_bytes: int) -> str:
    """Return the start of a text that has at most this size in UTF-8."""
    return text.encode()[:max_bytes].decode(errors="ignore")
