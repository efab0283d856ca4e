"""`imgcache fetch`: get images by their URLs, from the cache or from their sites."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NamedTuple

import typer

from imgcache_scrapy.cli.location import CacheOption, open_client, use_cache
from imgcache_scrapy.cli.output import JsonOption, replace_file
from imgcache_scrapy.client.client import ImgCacheClient
from imgcache_scrapy.client.results import Fetched
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import ConfigurationError, FetchError, ImgCacheError
from imgcache_scrapy.core.formats import EXTENSIONS, IMAGE_SUFFIXES
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.text import printable, quoted
from imgcache_scrapy.core.urls import downloadable, filename_of

# As in Scrapy: DOWNLOAD_TIMEOUT, and half of CONCURRENT_REQUESTS_PER_DOMAIN.
_SECONDS = 180.0
_FETCHED_TOGETHER = 4

_DIGEST_DIGITS = 12
_MAX_STEM = 60
_ODD_CHARACTERS = re.compile(r"[^\w.-]+")

HeaderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--header", metavar="'NAME: VALUE'", help="A header of the requests; may be repeated."
    ),
]


class _Result(NamedTuple):
    """What became of a URL: the text for standard output, its JSON, and an error."""

    text: str
    fields: dict[str, Any]
    error: str | None = None


def fetch(
    urls: Annotated[list[str], typer.Argument(metavar="URL…", help="The URLs of images.")],
    *,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FOLDER", help="Write the images to this folder."),
    ] = None,
    client_name: Annotated[
        str, typer.Option("--client", metavar="NAME", help="The name in the captures.")
    ] = "imgcache",
    max_age: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Ask the site whether an image has changed if its capture is older; 0: always.",
        ),
    ] = None,
    header: HeaderOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Get images from the cache, or fetch and store them; print each path or hash, and status.

    The exit code is 1 if one of them failed.
    """
    headers = dict(map(_header, header or ()))
    location = use_cache(cache, creates=True, in_new_folder=True)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    has_failed = False
    with open_client(location, _SECONDS) as client, _threads() as threads:

        def get(url: str) -> _Result:
            return _result(client, url, output, location.key_of, client_name, max_age, headers)

        for result in threads.map(get, urls):
            if result.error is not None:
                typer.echo(f"imgcache: {result.error}", err=True)
                has_failed = True
            if as_json:
                typer.echo(json.dumps(result.fields))
            elif result.error is None:
                typer.echo(result.text)
    if has_failed:
        raise typer.Exit(1)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ConfigurationError(f"a header is 'Name: value', not {quoted(text)}")
    return name.strip(), value.strip()


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """Return threads that fetch images; after an interrupt, no further image is begun."""
    threads = ThreadPoolExecutor(_FETCHED_TOGETHER)
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)


def _result(
    client: ImgCacheClient,
    url: str,
    folder: Path | None,
    key_of: Callable[[str], str],
    *options: Any,
) -> _Result:
    """Fetch an image, and write it to a file if there is a folder."""
    client_name, max_age, headers = options
    try:
        fetched = client.fetch(url, client_name, max_age=max_age, headers=headers)
        place = fetched.entry["content_hash"]
        path = {}
        if folder is not None:
            place = str(folder / file_name(url, key_of, fetched.entry["content_type"]))
            replace_file(Path(place), fetched.data)
            path = {"path": place}
    except (ImgCacheError, OSError) as error:
        return _failure(url, error)
    return _Result(f"{place}\t{fetched.status}", {**_fields(url, fetched), **path})


def _fields(url: str, fetched: Fetched) -> dict[str, Any]:
    return {**fetched.entry, "url": printable(url), "status": fetched.status}


def _failure(url: str, error: Exception) -> _Result:
    reason = error.reason if isinstance(error, FetchError) else getattr(error, "code", "file")
    fields = {
        "url": printable(url),
        "status": "failed",
        "reason": reason,
        "http_status": error.http_status if isinstance(error, FetchError) else None,
        "error": printable(error),
    }
    return _Result("", fields, f"{printable(url)}: {printable(error)}")


def file_name(url: str, key_of: Callable[[str], str], content_type: str) -> str:
    """Return the name of the file for an image: the same for each spelling of its URL.

    Args:
        url: the URL of the image.
        key_of: computes the cache key of a URL.
        content_type: decides the extension if the URL has none of a picture.
    """
    key = ImageUrl.of(downloadable(url), None, key_of).key
    name = PurePosixPath(filename_of(key) or "image")
    suffix = name.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        suffix = f".{EXTENSIONS.get(content_type, 'bin')}"
    else:
        name = name.with_suffix("")
    stem = _ODD_CHARACTERS.sub("_", name.name).strip("._-")[:_MAX_STEM] or "image"
    return f"{stem}-{content_hash_of(key.encode())[:_DIGEST_DIGITS]}{suffix}"
