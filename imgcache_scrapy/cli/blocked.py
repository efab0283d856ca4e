"""`imgcache block`, `unblock`, `blocked`, `suggest-blocked`: images that a cache must not take."""

import json
from pathlib import Path
from typing import Annotated

import typer

from imgcache_scrapy.cli.location import CacheArgument, CacheOption, open_client, use_cache
from imgcache_scrapy.cli.output import JsonOption, print_rows
from imgcache_scrapy.client.spool_index import check_is_file
from imgcache_scrapy.core.entry import content_hash_of, is_content_hash
from imgcache_scrapy.core.errors import ConfigurationError, ImgCacheError
from imgcache_scrapy.core.text import printable, quoted

ImagesArgument = Annotated[
    list[str], typer.Argument(metavar="HASH|FILE…", help="Content hashes, or files of images.")
]


def block(
    images: ImagesArgument,
    *,
    reason: Annotated[str, typer.Option(help="Why they are blocked.")] = "",
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Block images: the cache takes them no more, and crawls reject them."""
    hashes = [_hash_of(image) for image in images]
    with open_client(use_cache(cache, creates=True)) as client:
        for content_hash in hashes:
            blocked_image = client.block(content_hash, reason=reason)
            typer.echo(json.dumps(blocked_image) if as_json else f"blocked {content_hash}")


def unblock(
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="[HASH|FILE…]", help="Content hashes, or files of images."),
    ] = None,
    *,
    host: Annotated[list[str] | None, typer.Option(help="A blocked host.")] = None,
    url: Annotated[list[str] | None, typer.Option(help="A blocked URL.")] = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Allow blocked images, hosts and URLs again."""
    wanted = [("content_hash", _hash_of(image)) for image in images or ()]
    wanted += [("host", each) for each in host or ()] + [("url", each) for each in url or ()]
    if not wanted:
        raise ConfigurationError("name an image, or a host or a URL by --host or --url")
    has_failed = False
    with open_client(use_cache(cache)) as client:
        for kind, name in wanted:
            try:
                client.unblock(**{kind: name})
                typer.echo(json.dumps({kind: name}) if as_json else f"unblocked {printable(name)}")
            except ImgCacheError as error:
                typer.echo(f"imgcache: {error}", err=True)
                has_failed = True
    if has_failed:
        raise typer.Exit(1)


def blocked(cache: CacheArgument = None, *, as_json: JsonOption = False) -> None:
    """List the blocked images, hosts and URLs, newest first."""
    with open_client(use_cache(cache)) as client:
        found = client.blocked()
        if as_json:
            print_rows(found, (), as_json=True)
            return
        rows = [
            {**each, "blocked": each["content_hash"] or each.get("host") or each.get("url")}
            for each in found
        ]
        print_rows(rows, ("blocked", "created_at", "reason"), as_json=False)


def suggest_blocked(cache: CacheArgument = None, *, as_json: JsonOption = False) -> None:
    """List images that may be placeholders: those with 10 or more different paths in their URLs."""
    columns = ("content_hash", "paths", "hosts", "width", "height", "file_size_bytes", "url")
    with open_client(use_cache(cache)) as client:
        print_rows(client.suggest_blocked(), columns, as_json=as_json)


def _hash_of(image: str) -> str:
    """Return the content hash that an argument is, or that of the file that it names."""
    path = Path(image)
    if is_content_hash(image) and not path.exists():
        return image
    try:
        check_is_file(path)
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{quoted(image)} is neither a content hash nor a file that can be read"
            f" ({error.strerror or 'it is not a file'})"
        ) from error
    if not data:
        raise ConfigurationError(f"{quoted(image)} is an empty file, which is no image")
    return content_hash_of(data)
