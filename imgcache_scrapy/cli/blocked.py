"""`imgcache block`, `unblock`, `blocked` and `suggest-blocked`: pictures that are none."""

import json
from pathlib import Path
from typing import Annotated

import typer

from imgcache_scrapy.cli.location import CacheArgument, CacheOption, open_client, use_cache
from imgcache_scrapy.cli.output import JsonOption, print_rows
from imgcache_scrapy.client.spool_index import check_is_file
from imgcache_scrapy.core.entry import content_hash_of, is_content_hash
from imgcache_scrapy.core.errors import ConfigurationError, ImgCacheError
from imgcache_scrapy.core.text import quoted

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
    images: ImagesArgument, *, cache: CacheOption = None, as_json: JsonOption = False
) -> None:
    """Allow blocked images again."""
    hashes, has_failed = [_hash_of(image) for image in images], False
    with open_client(use_cache(cache)) as client:
        for content_hash in hashes:
            try:
                client.unblock(content_hash)
                allowed = {"content_hash": content_hash}
                typer.echo(json.dumps(allowed) if as_json else f"unblocked {content_hash}")
            except ImgCacheError as error:
                typer.echo(f"imgcache: {error}", err=True)
                has_failed = True
    if has_failed:
        raise typer.Exit(1)


def blocked(cache: CacheArgument = None, *, as_json: JsonOption = False) -> None:
    """List the blocked images, newest first."""
    with open_client(use_cache(cache)) as client:
        print_rows(client.blocked(), ("content_hash", "created_at", "reason"), as_json=as_json)


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
