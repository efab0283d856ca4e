"""`imgcache uses`: which pages and items used an image, or which images a page used."""

from typing import Annotated

import typer

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
    as_json: JsonOption = False,
) -> None:
    """Print what used an image, or what a page used; the exit code is 1 if nothing is recorded."""
    is_image = is_content_hash(hash_or_page)
    with open_client(use_cache(cache)) as client:
        found = client.uses(hash_or_page) if is_image else client.used_on(hash_or_page)
    other = "page_url" if is_image else "content_hash"
    columns = ("used_at", other, "item", "spider", "job", "position", "alt", "caption", "url")
    if found:
        print_rows(found, columns, as_json=as_json)
        return
    what = "use of" if is_image else "image on"
    typer.echo(f"the cache knows no {what} {printable(hash_or_page)}", err=True)
    raise typer.Exit(1)
