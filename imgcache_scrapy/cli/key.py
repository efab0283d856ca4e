"""`imgcache key`: the cache key of URLs, and what it leaves out."""

import json
from collections.abc import Callable
from typing import Annotated

import typer

from imgcache_scrapy.cli.location import announce, project_folder
from imgcache_scrapy.cli.output import JsonOption
from imgcache_scrapy.core.errors import ConfigurationError, ImgCacheError
from imgcache_scrapy.core.keys import KeyedUrl, explain_key
from imgcache_scrapy.core.text import printable, quoted


def key(
    urls: Annotated[list[str], typer.Argument(metavar="URL…", help="The URLs of images.")],
    *,
    cache: Annotated[
        str | None,
        typer.Option(
            "--cache",
            metavar="CACHE",
            help="Print the keys that commands with this option use: the default ones.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the cache key of each URL, and why it is not the URL itself."""
    explain, has_failed = _explainer() if cache is None else explain_key, False
    for url in urls:
        try:
            found = explain(url)
        except ImgCacheError as error:
            typer.echo(f"imgcache: {error}", err=True)
            has_failed = True
            continue
        if as_json:
            typer.echo(json.dumps({"url": printable(url), **found._asdict()}))
        else:
            typer.echo(f"{found.key}\t{found.reason}")
    if has_failed:
        raise typer.Exit(1)


def _explainer() -> Callable[[str], KeyedUrl]:
    """Return what explains keys: by the settings of the current project, if there is one."""
    project = project_folder()
    if project is None:
        return explain_key
    # Imported here, because only commands inside of a project need Scrapy.
    from imgcache_scrapy.plugin.keys import KeyFunctionError  # noqa: PLC0415
    from imgcache_scrapy.plugin.project import read_project_settings  # noqa: PLC0415

    announce("Settings", f"of the Scrapy project {project}")
    key_of = read_project_settings(project).key_of

    def explain(url: str) -> KeyedUrl:
        try:
            return key_of.explain(url)
        except KeyFunctionError as error:
            raise ConfigurationError(f"{error}, for {quoted(url)}") from error

    return explain
