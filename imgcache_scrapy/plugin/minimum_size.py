"""Decide whether an image is smaller than IMGCACHE_MIN_WIDTH and IMGCACHE_MIN_HEIGHT allow."""

from scrapy.http import Response

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import ImgCacheError
from imgcache_scrapy.core.header_size import header_size
from imgcache_scrapy.plugin.session import Session


async def size_problem(session: Session, entry: Entry, response: Response | None) -> str | None:
    """Return why an image is too small; None if it is not, or if its size is not known.

    Args:
        session: the session of the crawl, with the limits.
        entry: the entry of the image. An image that waits in the spool is not decoded yet; then
            the header of its bytes tells the size.
        response: the response with its bytes; None if they were not read.
    """
    min_width, min_height = session.settings.min_width, session.settings.min_height
    if not min_width and not min_height:
        return None
    sizes = await _possible_sizes(session, entry, response)
    if not sizes or any(width >= min_width and height >= min_height for width, height in sizes):
        return None
    width, height = sizes[0]
    return f"{width}x{height} pixels, less than {min_width}x{min_height}"


async def _possible_sizes(
    session: Session, entry: Entry, response: Response | None
) -> list[tuple[int, int]]:
    width, height = entry["width"], entry["height"]
    if width is not None and height is not None:
        return [(width, height)]
    try:
        data = (
            await session.resilient_client.get_bytes(entry) if response is None else response.body
        )
    except ImgCacheError:
        return []
    size = header_size(data)
    # The header does not say whether the picture is displayed turned.
    return [] if size is None else [size, (size[1], size[0])]
