"""The options that many commands have in common: those for filters, the cache and its token."""

import inspect
import os
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, cast

import typer

from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.filters import TYPES, Filters, full_type

_TIME = "a time in UTC, for example 2026-11-27 or 2026-11-27T08:00:00."


def _filter_options(
    *,
    url_contains: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A part of the URL, in this letter case.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="The host of the URL.")] = None,
    bucket: Annotated[str | None, typer.Option(help="The bucket.")] = None,
    client_name: Annotated[
        str | None,
        typer.Option("--client", metavar="NAME", help="The client or the spider that fetched it."),
    ] = None,
    content_type: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="For example image/jpeg, or jpeg.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help=f"Fetched since then: {_TIME}")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help=f"Fetched before: {_TIME}")
    ] = None,
    min_width: Annotated[int | None, typer.Option(help="In pixels.")] = None,
    min_height: Annotated[int | None, typer.Option(help="In pixels.")] = None,
    min_bytes: Annotated[int | None, typer.Option(help="The size of the file.")] = None,
    max_bytes: Annotated[int | None, typer.Option(help="The size of the file.")] = None,
    damaged: Annotated[
        bool | None,
        typer.Option("--damaged/--sound", help="Only damaged images, or only the others."),
    ] = None,
    page_url: Annotated[
        str | None,
        typer.Option("--page", metavar="URL", help="Used on this page, as far as it is recorded."),
    ] = None,
    job: Annotated[str | None, typer.Option(help="Used last by this job of a spider.")] = None,
) -> None:
    """Have the parameters of all filter options."""


def _cache_option(
    *,
    cache_option: Annotated[
        str | None, typer.Option("--cache", metavar="CACHE", help="The same as CACHE.")
    ] = None,
) -> None:
    """Have the parameter of the option that names a cache."""


def _token_option(
    *,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN", envvar="IMGCACHE_TOKEN", help="The bearer token of the service."
        ),
    ] = None,
) -> None:
    """Have the parameter of the option for a token."""


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Add the filter options to a command.

    Args:
        command: a function with a keyword parameter `filters`, which gets the `Filters`.
    """

    @wraps(command)
    def call(**arguments: Any) -> None:
        filters = {name: arguments.pop(name) for name in _parameters(_filter_options)}
        if filters["content_type"] is not None:
            _check_type(filters["content_type"])
        command(filters=cast("Filters", filters), **arguments)

    _set_parameters(call, _parameters(command, without="filters") | _parameters(_filter_options))
    return call


def _check_type(content_type: str) -> None:
    if full_type(content_type) not in TYPES:
        # Not in the API: another version may know more types.
        raise ConfigurationError(
            f"there is no content type {content_type!r:.80}: the types are {', '.join(TYPES)}"
        )


def with_cache_option(command: Callable[..., None]) -> Callable[..., None]:
    """Let `--cache` name the cache, too, in a command that takes it as its argument.

    Args:
        command: a function with a parameter `cache`.
    """

    @wraps(command)
    def call(*, cache_option: str | None, cache: str | None, **arguments: Any) -> None:
        if cache_option is not None and cache not in {None, os.environ.get("IMGCACHE_URL")}:
            raise ConfigurationError("name the cache once: as CACHE, or by --cache")
        command(cache=cache if cache_option is None else cache_option, **arguments)

    _set_parameters(call, _parameters(command) | _parameters(_cache_option))
    return call


def with_token_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--token` to a command that may use a service."""

    @wraps(command)
    def call(*, token: str | None, **arguments: Any) -> None:
        if token is not None:
            # `find_cache` reads it from here.
            os.environ["IMGCACHE_TOKEN"] = token
        command(**arguments)

    _set_parameters(call, _parameters(command) | _parameters(_token_option))
    return call


def _parameters(
    command: Callable[..., None], without: str | None = None
) -> dict[str, inspect.Parameter]:
    found = inspect.signature(command).parameters
    return {name: each for name, each in found.items() if name != without}


def _set_parameters(command: Callable[..., None], parameters: dict[str, inspect.Parameter]) -> None:
    """Set the parameters that Typer reads of a command."""
    # Parameters by position must come first.
    ordered = sorted(parameters.values(), key=lambda each: each.kind)
    command.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in ordered}
