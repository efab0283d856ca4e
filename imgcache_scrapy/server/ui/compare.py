"""The page that compares two pictures."""

from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Query, Response
from fastapi.responses import RedirectResponse

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import InvalidRequestError, not_found
from imgcache_scrapy.core.limits import HASH_PATTERN
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.server.ui.access import Form, SignedIn
from imgcache_scrapy.server.ui.acts import hashes_of
from imgcache_scrapy.server.ui.pages import HEADERS, Pages
from imgcache_scrapy.server.ui.picture import look_alikes, what_to_show
from imgcache_scrapy.server.ui.texts import address, pixels, size_and_bytes, time
from imgcache_scrapy.server.ui.tiles import Tile, is_visible, tile_of

Hash = Annotated[str, Query(pattern=HASH_PATTERN)]
View = Literal["side", "difference"]

_TWO = 2


class Side(NamedTuple):
    """One of the two pictures.

    Attributes:
        tile: its name and facts.
        source: the address of what is shown of it; None if nothing is.
        why_not: why nothing is shown.
    """

    tile: Tile
    source: str | None
    why_not: str


def add_compare(router: APIRouter, pages: Pages, images: AsyncImageCache) -> None:
    """Add the routes of the page that compares two pictures."""

    @router.post("/ui/compare")
    async def compare_selected(form: Form) -> Response:
        chosen = hashes_of(form)
        if len(chosen) != _TWO:
            raise InvalidRequestError("select exactly two pictures to compare them")
        path = address("/ui/compare", {"a": chosen[0], "b": chosen[1]})
        return RedirectResponse(path, 303, headers=HEADERS)

    @router.get("/ui/compare")
    async def compare(visitor: SignedIn, a: Hash, b: Hash, view: View = "side") -> Response:
        first, second = [await _newest(images, each) for each in (a, b)]
        alike = await look_alikes(images, first)
        names = [each["content_hash"] for each in alike]
        place = names.index(b) if b in names else None

        def path(of: str | None, other: str = a, wanted: str = view) -> str | None:
            view_or_none = None if wanted == "side" else wanted
            return of and address("/ui/compare", {"a": other, "b": of}, view=view_or_none)

        sides = [_side(first), _side(second)]
        can_differ = all(side.source for side in sides)
        return await pages.answer(
            "compare",
            visitor,
            sides=sides,
            view=view if can_differ else "side",
            rows=_rows(first, second),
            distance=_distance(first, second),
            is_same_size=_pixels(first) == _pixels(second),
            side_by_side=path(b, wanted="side"),
            difference=path(b, wanted="difference") if can_differ else None,
            swapped=path(a, b),
            previous=path(_neighbour(names, place, -1)),
            following=path(_neighbour(names, place, 1)),
            alike=[
                {
                    "path": path(each["content_hash"]),
                    "tile": tile_of(each),
                    "is_shown": each["content_hash"] == b,
                }
                for each in alike
            ],
        )


async def _newest(images: AsyncImageCache, content_hash: str) -> Entry:
    page = await images.captures_page(content_hash, None, 1, None)
    if not page.entries:
        raise not_found(content_hash, None)
    return page.entries[0]


def _neighbour(names: list[str], place: int | None, step: int) -> str | None:
    """Return the name before or after a place; from no place, the first one comes after."""
    wanted = place + step if place is not None else (0 if step > 0 else -1)
    return names[wanted] if 0 <= wanted < len(names) else None


def _side(entry: Entry) -> Side:
    shown = what_to_show(entry["content_type"], is_visible=is_visible(entry))
    sources = {
        "original": f"/serve/{entry['content_hash']}",
        "thumbnail": f"/thumbnails/{entry['content_hash']}",
        None: None,
    }
    return Side(tile_of(entry), sources[shown], _why_not_shown(entry))


def _why_not_shown(entry: Entry) -> str:
    badges = tile_of(entry).badges
    return f"This picture is not shown, because it is {' and '.join(badges)}."


def _distance(first: Entry, second: Entry) -> int | None:
    one, other = first["perceptual_hash"], second["perceptual_hash"]
    if one is None or other is None:
        return None
    return (int(one, 16) ^ int(other, 16)).bit_count()


def _pixels(entry: Entry) -> str:
    return pixels(entry["width"], entry["height"]) or "unknown"


def _rows(first: Entry, second: Entry) -> list[tuple[str, tuple[Any, Any]]]:
    def both(value: Any) -> tuple[Any, Any]:
        return value(first), value(second)

    return [
        ("Pixels", both(_pixels)),
        ("Type", both(lambda each: each["content_type"])),
        ("Bytes", both(lambda each: size_and_bytes(each["file_size_bytes"]))),
        ("Last fetched", both(lambda each: time(each["lookup_time"]))),
        ("Client", both(lambda each: each["client_name"])),
        ("URL", both(lambda each: each["url"][:500])),
        ("Perceptual hash", both(lambda each: each["perceptual_hash"] or "none")),
        ("Content hash", both(lambda each: each["content_hash"])),
    ]
