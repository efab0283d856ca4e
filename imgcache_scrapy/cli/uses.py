"""`imgcache uses`: which pages and items used an image, or which images a page used."""

from functools import partial
from typing import Annotated

import typer

from imgcache_scrapy.cli.listing import pages_of
from imgcache_scrapy.cli.location import CacheArgument, open_client, use_cache
from imgcache_scrapy.cli.output import JsonOption, print_rows
from imgcache_scrapy.core.entry import is_content_hash
from imgcache_scrapy.core.text import printable


def uses(
    hash_or_page: Annotated[
        str, typer.Argument(metavar="HASH_OR_PAGE", help="The hash of an image, or a page's URL.")
    ],
    cache: CacheArgument = None,
    *,
    limit: Annotated[int | None, typer.Option(help="Print at most this number.", min=1)] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what used an image, or what a page used; the exit code is 1 if nothing is recorded."""
    is_image = is_content_hash(hash_or_page)
    other = "page_url" if is_image else "content_hash"
    columns = ("used_at", other, "item", "spider", "job", "position", "alt", "caption", "url")
    with open_client(use_cache(cache)) as client:
        read = partial(client.uses if is_image else client.used_on, hash_or_page)
        has_any = False
        for page in pages_of(read, limit):
            has_any |= bool(page)
            if page:
                print_rows(page, columns, as_json=as_json)
    if not has_any:
        what = "use of" if is_image else "image on"
        typer.echo(f"the cache knows no {what} {printable(hash_or_page)}", err=True)
        raise typer.Exit(1)
