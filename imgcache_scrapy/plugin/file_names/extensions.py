"""Choose the extension of a file from what is in it."""

import re
from mimetypes import MimeTypes
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from scrapy.http import Response

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.formats import EXTENSIONS, sniff

# Without the tables of the machine, which differ.
_TYPES = MimeTypes()
_OTHER = "bin"
_PLAIN = re.compile(r"\.[a-z0-9]{1,8}")
# What servers send if they do not know the type.
_UNKNOWN_TYPES = frozenset({"", "application/octet-stream", "binary/octet-stream"})


def extension_of(response: Response, entry: Entry | None) -> str:
    """Return the extension for the bytes of a response, without the dot.

    Args:
        response: the response.
        entry: the entry of the image, which has the type of its bytes; None if the cache does not
            have it. Then the bytes decide, then the header, then the URL.
    """
    content_type = entry["content_type"] if entry is not None else sniff(response.body)
    if content_type in EXTENSIONS:
        return EXTENSIONS[content_type]
    header = (response.headers.get("Content-Type") or b"").decode("latin-1")
    content_type = header.partition(";")[0].strip().lower()
    if content_type not in _UNKNOWN_TYPES:
        guessed = _TYPES.guess_extension(content_type) or ""
        if _PLAIN.fullmatch(guessed):
            return guessed[1:]
    suffix = PurePosixPath(urlsplit(response.url).path).suffix.lower()
    return suffix[1:] if _PLAIN.fullmatch(suffix) else _OTHER
