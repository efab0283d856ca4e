"""The uses of images in what is imported and exported: pages, items, texts."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from imgcache_scrapy.cli.transfer.rows import parsed_cell
from imgcache_scrapy.client.client import AsyncImgCacheClient
from imgcache_scrapy.core.batches import batches
from imgcache_scrapy.core.checks import cleaned
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import InvalidRequestError, ProtocolError
from imgcache_scrapy.core.filters import Filters
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.uses import NewUse, Use, page_of

Fields = dict[str, Any]
"""The fields of a use that do not belong to its image and its URL, as JSON has them."""

MAX_USES = 1000
"""Maximum number of uses of an image that an export has, and of a capture that an import takes."""

_OF_CAPTURE = ("content_hash", "url", "key", "bucket")
_OF_ROW = ("page_url", "item", "alt", "caption", "position")
_MAX_DIGITS = 9
_ANY_HASH = "0" * 64
_ANY_URL = ImageUrl.of("http://h.example/")
# They must fit in the first line of a request.
_HASHES_IN_REQUEST = 50


def uses_of_row(row: Mapping[str, Any], capture: Mapping[str, Any]) -> list[Fields]:
    """Return the uses in a row of a manifest, of one of its captures.

    Args:
        row: the row: the list `uses` as an export writes it, or values of one use.
        capture: the capture, or the row itself.
    """
    uses = row.get("uses")
    if isinstance(uses, list) and uses:
        same = [each for each in uses if isinstance(each, dict) and _is_of(each, capture)]
        return list(_checked(same[:MAX_USES]))
    values = {name: row[name] for name in _OF_ROW if row.get(name) not in (None, "")}
    position = str(values.pop("position", ""))
    if position.isdecimal():  # In CSV it is a text.
        values["position"] = int(position[:_MAX_DIGITS])
    return list(_checked([values])) if values else []


def use_of_item(item: Mapping[str, Any], position: int, url: str) -> list[Fields]:
    """Return the use of an image by an item of a feed, if the item says anything about it.

    Args:
        item: the item.
        position: the place of the image in it, from 1.
        url: the URL of the image.
    """
    # Imported here, because only feeds need it.
    from imgcache_scrapy.plugin.provenance import ItemUse, UseFields, text_of  # noqa: PLC0415

    fields = UseFields()
    names = (name for each in fields for name in each if name in item)
    values = {
        name: parsed_cell(value) if isinstance(value := item[name], str) else value
        for name in names
    }
    found = ItemUse.of(values, fields)
    use = {
        "page_url": found.page_url,
        "item": found.item,
        "alt": text_of(found.alt, position, url),
        "caption": text_of(found.caption, position, url),
    }
    known = {name: each for name, each in use.items() if each is not None}
    return [{**known, "position": position}] if known else []


def facts_of(uses: Sequence[Use], captures: Iterable[Entry]) -> Fields:
    """Return what is known of the uses of a picture, with the same keys for every picture.

    Args:
        uses: its uses, newest first.
        captures: the captures that are exported; the uses of others are left out.
    """
    places = {(each["key"], each.get("bucket", "")) for each in captures}
    found = [use for use in uses if (use["key"], use["bucket"]) in places]
    newest = {
        name: next((use[name] for use in found if use[name] is not None), "")
        for name in ("page_url", "alt", "caption")
    }
    # A text, because every row of a data set must have the same structure.
    return {**newest, "uses": json.dumps([_without_none(use) for use in found])}


async def has_uses(client: AsyncImgCacheClient) -> bool:
    """Return whether a cache has any uses; another implementation has none."""
    try:
        return bool(await client.list_uses(limit=1))
    except ProtocolError:
        return False


async def uses_of_images(
    client: AsyncImgCacheClient, content_hashes: Iterable[str], filters: Filters
) -> dict[str, list[Use]]:
    """Return the uses of images, newest first, at most `MAX_USES` of each.

    Args:
        client: a client of the cache.
        content_hashes: the images.
        filters: the page and the job of the uses, if they have these filters.
    """
    page_url, job = filters.get("page_url"), filters.get("job")
    wanted_page = page_of(page_url) if page_url else None
    found: dict[str, list[Use]] = {}
    for names in batches(content_hashes, _HASHES_IN_REQUEST):
        after = None
        while True:
            page = await client.transport.uses_page(names, wanted_page, None, None, after)
            for use in page.entries:
                its_uses = found.setdefault(use["content_hash"], [])
                if len(its_uses) < MAX_USES and job in {None, use["job"]}:
                    its_uses.append(use)
            after = page.after
            if after is None:
                break
    return found


def _is_of(use: Mapping[str, Any], capture: Mapping[str, Any]) -> bool:
    same_bucket = (use.get("bucket") or "") == (capture.get("bucket") or "")
    url, key = capture.get("url"), capture.get("key")
    with suppress(InvalidRequestError):
        key = key or ImageUrl.of(str(url)).key
    return same_bucket and (use.get("url") == url or use.get("key") == key)


def _checked(uses: Iterable[Mapping[str, Any]]) -> Iterator[Fields]:
    for use in uses:
        values = {
            name: cleaned(value) if isinstance(value, str) else value
            for name, value in use.items()
            if name not in _OF_CAPTURE
        }
        try:
            # The image is not read yet.
            checked = NewUse.of(_ANY_URL, {**values, "content_hash": _ANY_HASH}).fields()
        except InvalidRequestError:
            continue
        yield {name: each for name, each in checked.items() if name not in _OF_CAPTURE}


def _without_none(use: Use) -> Fields:
    return {
        name: value for name, value in use.items() if value is not None and name != "content_hash"
    }
