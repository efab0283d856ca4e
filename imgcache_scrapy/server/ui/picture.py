"""The page of one picture, and that of the history of a URL."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import not_found
from imgcache_scrapy.core.limits import SEARCH_POSITION_PATTERN, USE_POSITION_PATTERN
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.engine.catalog.gallery import ImageFacts
from imgcache_scrapy.server.parameters import ContentHash, Key, Url, image_url
from imgcache_scrapy.server.ui.access import SignedIn
from imgcache_scrapy.server.ui.pages import Pages
from imgcache_scrapy.server.ui.results import result_of
from imgcache_scrapy.server.ui.texts import address, kind, pixels, size, size_and_bytes, time
from imgcache_scrapy.server.ui.tiles import (
    SHOWN_BY_BROWSERS,
    Tile,
    download_name,
    tile_of,
)

MAX_DISTANCE = 4
"""Pictures whose perceptual hashes differ in at most this number of bits are look-alikes."""
# The largest distance that takes not much longer than 5; it is looked for on demand.
_FAR_DISTANCE = 9
_MAX_ALIKE = 24
_CAPTURES = 50
_USES = 50

Position = Annotated[str | None, Query(pattern=SEARCH_POSITION_PATTERN)]

_WHY_NOT_DECODED = {
    "format": "its format is not one that is decoded",
    "broken": "the decoder found an error in it",
    "too_large": "it has too many pixels",
    "too_slow": "decoding it took too long",
    "too_much_memory": "decoding it needed too much memory",
    "crashed": "the decoder crashed on it",
    "timeout": "the decoder did not answer",
    None: "it was not its turn yet",
}


def add_picture(router: APIRouter, pages: Pages, images: AsyncImageCache) -> None:
    """Add the routes of the page of a picture and of that of a history."""

    @router.get("/ui/images/{content_hash}")
    async def picture(
        visitor: SignedIn,
        content_hash: ContentHash,
        *,
        after: Position = None,
        uses_after: Annotated[str | None, Query(pattern=USE_POSITION_PATTERN)] = None,
        far: bool = False,
        done: str | None = None,
    ) -> Response:
        max_distance = _FAR_DISTANCE if far else MAX_DISTANCE
        facts = await images.image_facts(content_hash)
        if facts is None:
            return await _absent(pages, images, visitor, content_hash)
        captures = await images.captures_page(content_hash, None, _CAPTURES, after)
        uses = await images.uses_page([content_hash], limit=_USES, after=uses_after)
        newest = captures.entries[0] if captures.entries else None
        problems = _problems(facts)
        return await pages.answer(
            "picture",
            visitor,
            content_hash=content_hash,
            facts_of=facts,
            newest=newest,
            tile=_tile(facts, newest),
            shown=what_to_show(facts.content_type, is_visible=not problems),
            why_not=_why_not_shown(facts),
            problems=problems,
            rows=_rows(facts, newest),
            download_name=f"{content_hash[:16]}.bin" if newest is None else download_name(newest),
            alike=[tile_of(each) for each in await look_alikes(images, newest, max_distance)],
            hash_known=newest is not None and newest["perceptual_hash"] is not None,
            max_distance=max_distance,
            farther=None if far else address(f"/ui/images/{content_hash}", far=1),
            entries=captures.entries,
            more_urls=captures.after
            and address(f"/ui/images/{content_hash}", after=captures.after),
            uses=uses.entries,
            more_uses=uses.after and address(f"/ui/images/{content_hash}", uses_after=uses.after),
            result=result_of(done),
        )

    @router.get("/ui/history")
    async def history(
        request: Request,
        visitor: SignedIn,
        url: Annotated[Url, Query()],
        key: Annotated[Key | None, Query()] = None,
        after: Position = None,
    ) -> Response:
        page = await images.history_page(image_url(url, key).keys, None, _CAPTURES, after)
        next_page = page.after and address("/ui/history", request.query_params, after=page.after)
        return await pages.answer(
            "history", visitor, url=url, entries=page.entries, next_page=next_page
        )


async def look_alikes(
    images: AsyncImageCache, entry: Entry | None, max_distance: int = MAX_DISTANCE
) -> list[Entry]:
    """Return the images that look like that of an entry, nearest first."""
    if entry is None or entry["perceptual_hash"] is None:
        return []
    page = await images.similar_page(
        entry["perceptual_hash"], max_distance, None, _MAX_ALIKE + 1, None
    )
    others = [each for each in page.entries if each["content_hash"] != entry["content_hash"]]
    return others[:_MAX_ALIKE]


def what_to_show(content_type: str, *, is_visible: bool) -> str | None:
    """Return whether a page shows the `original` of an image or its `thumbnail`; None for none."""
    if not is_visible:
        return None
    return "original" if content_type in SHOWN_BY_BROWSERS else "thumbnail"


async def _absent(
    pages: Pages, images: AsyncImageCache, visitor: SignedIn, content_hash: str
) -> Response:
    """Answer with the page of an image that the cache does not have, but that is blocked."""
    reason = await images.blocked_reason(content_hash)
    if reason is None:
        raise not_found(content_hash, None)
    return await pages.answer("absent", visitor, content_hash=content_hash, reason=reason)


def _tile(facts: ImageFacts, newest: Entry | None) -> Tile:
    if newest is not None:
        return tile_of(newest)
    about = f"{kind(facts.content_type)} · {size(facts.file_size_bytes)}"
    return Tile(facts.content_hash, facts.content_hash[:16], "", about, [], has_thumbnail=False)


def _why_not_shown(facts: ImageFacts) -> str:
    if facts.is_damaged:
        return "The bytes of this picture are damaged, so that there is nothing to show."
    if facts.blocked_for is not None:
        return "This picture is blocked, so that it is not shown."
    if facts.content_type == "image/svg+xml":
        return "An SVG is a document that may contain scripts. It is not shown: download it."
    return f"This picture is not shown, because it is not decoded: download it. {_reason(facts)}"


def _problems(facts: ImageFacts) -> list[str]:
    found = []
    if facts.is_damaged:
        found.append(
            "Damaged: its bytes are missing or not those that were stored. The next crawl that"
            " fetches it repairs it."
        )
    if facts.blocked_for is not None:
        reason = f": {facts.blocked_for}" if facts.blocked_for else "."
        found.append(f"Blocked, so that the cache does not store it again{reason}")
    if not facts.is_decoded and not facts.is_damaged:
        found.append(_reason(facts))
    return found


def _reason(facts: ImageFacts) -> str:
    return f"Not decoded: {_WHY_NOT_DECODED.get(facts.decode_error, facts.decode_error)}."


def _rows(facts: ImageFacts, newest: Entry | None) -> list[tuple[str, Any]]:
    entry: dict[str, Any] = {} if newest is None else {**newest}
    return [
        ("Pixels", pixels(entry.get("width"), entry.get("height"))),
        ("Type", facts.content_type),
        ("Bytes", size_and_bytes(facts.file_size_bytes)),
        ("First seen", facts.first_seen and time(facts.first_seen)),
        ("Last fetched", time(entry["lookup_time"]) if entry else None),
        ("Last client", entry.get("client_name")),
        ("Buckets", ", ".join(name or "(none)" for name in facts.buckets) or None),
        ("File name", entry.get("original_filename")),
        ("Content hash", facts.content_hash),
        ("Perceptual hash", entry.get("perceptual_hash")),
        ("Redirected to", entry.get("final_url")),
        (
            "Converted",
            "by a program, from the picture of the site" if entry.get("converted") else None,
        ),
        *((name, value) for name, value in entry.get("headers", {}).items()),
    ]
