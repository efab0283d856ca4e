"""Decide which cache and spool a command uses: the named, the project's or the default one."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from imgcache_scrapy.client.address import folder_of, home_expanded, without_secrets
from imgcache_scrapy.client.client import ImgCacheClient
from imgcache_scrapy.client.spool import SPOOL_FOLDER
from imgcache_scrapy.core.environment import SETTINGS_VARIABLE
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.fetch_rules import DEFAULT_FETCH_RULES, FetchRules
from imgcache_scrapy.core.keys import cache_key
from imgcache_scrapy.core.text import quoted

DEFAULT_CACHE = "imgcache"

_CACHE_HELP = (
    "The address of a service, http(s)://host:port, or the folder of an embedded cache. "
    "Default: the cache of the current Scrapy project, else ./imgcache."
)
CacheArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="CACHE",
        envvar="IMGCACHE_URL",
        help=_CACHE_HELP,
    ),
]
CacheOption = Annotated[
    str | None,
    typer.Option(
        "--cache",
        metavar="CACHE",
        envvar="IMGCACHE_URL",
        help=_CACHE_HELP,
    ),
]
SpoolOption = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        envvar="IMGCACHE_SPOOL_DIR",
        help="The folder of the spool. "
        f"Default: the spool of the current Scrapy project, else {SPOOL_FOLDER}.",
    ),
]


@dataclass(frozen=True)
class Location:
    """Where a cache is.

    Attributes:
        address: `http(s)://…`, `file://…` or a path.
        project: the folder of the Scrapy project whose settings name the cache; None if the user
            named it, or if there is no project.
        token: the bearer token of the service; None for no token.
        bucket: the bucket that the crawls of the project use.
        key_of: computes the cache key of a URL, by the settings of the project.
        max_bytes: the size of an embedded cache that its crawls keep, in bytes; None for no limit.
        fetch_rules: how its crawls fetch images.
    """

    address: str
    project: Path | None = None
    token: str | None = None
    bucket: str = ""
    key_of: Callable[[str], str] = cache_key
    max_bytes: int | None = None
    fetch_rules: FetchRules = DEFAULT_FETCH_RULES

    @property
    def client_options(self) -> dict[str, Any]:
        """The arguments of a client for this cache, beside the address and the timeout."""
        return {
            "token": self.token,
            "bucket": self.bucket,
            "key_of": self.key_of,
            "max_bytes": None if self.folder is None else self.max_bytes,
            "fetch_rules": self.fetch_rules,
        }

    @property
    def folder(self) -> Path | None:
        """The folder of an embedded cache, None for a service."""
        return folder_of(self.address)

    def __str__(self) -> str:
        folder = self.folder
        text = without_secrets(self.address) if folder is None else _folder_and_variables(folder)
        return text if self.project is None else f"{text} (of the Scrapy project {self.project})"


def find_cache(named: str | None) -> Location:
    """Decide which cache a command uses.

    Args:
        named: the address in the argument or in the environment; None if there is none.

    Raises:
        ConfigurationError: the settings of the project are wrong.
    """
    token = os.environ.get("IMGCACHE_TOKEN")
    if named is not None:
        # The token of the project must not be sent to another service.
        return Location(named, token=token)
    project = project_folder()
    if project is None:
        return Location(DEFAULT_CACHE, token=token)
    # Imported here, because only commands inside of a project need Scrapy.
    from imgcache_scrapy.plugin.project import (  # noqa: PLC0415
        read_project_settings,
        read_request_headers,
    )

    settings = read_project_settings(project)
    token = token or settings.token
    return Location(
        settings.url,
        project,
        token,
        settings.bucket,
        _with_setting_errors(settings.key_of),
        settings.max_bytes,
        replace(settings.fetch_rules, headers=read_request_headers(project)),
    )


def _with_setting_errors(compute: Callable[[str], str]) -> Callable[[str], str]:
    """Make the function for keys of a project raise its errors as those of a setting."""
    from imgcache_scrapy.plugin.keys import KeyFunctionError  # noqa: PLC0415

    def key_of(url: str) -> str:
        try:
            return compute(url)
        except KeyFunctionError as error:
            raise ConfigurationError(f"{error}, for {quoted(url)}") from error

    return key_of


def use_cache(named: str | None, *, creates: bool = False, in_new_folder: bool = False) -> Location:
    """Decide which cache a command uses, print it on standard error, and check that it exists.

    Args:
        named: the address in the argument or in the environment; None if there is none.
        creates: whether the command may create the cache in a folder that exists.
        in_new_folder: whether it may create this folder, too.

    Raises:
        ConfigurationError: the address is wrong, there is no cache, or the settings of the
            project are wrong.
    """
    location = find_cache(named)
    announce("Cache", location)
    folder = location.folder
    creates = creates and (in_new_folder or (folder is not None and folder.exists()))
    if folder is not None and not creates:
        _check_cache_in(folder)
    return location


def _check_cache_in(folder: Path) -> None:
    # Imported here, because a service needs no engine.
    from imgcache_scrapy.engine.absent import is_absent  # noqa: PLC0415
    from imgcache_scrapy.engine.location import BLOBS_NAME  # noqa: PLC0415

    if not is_absent(folder):
        return
    if os.environ.get("IMGCACHE_DATABASE_URL"):
        raise ConfigurationError(
            "there is no cache: IMGCACHE_DATABASE_URL names a catalog that does not exist"
        )
    if (folder / BLOBS_NAME).exists():
        raise ConfigurationError(
            f"the catalog in {folder} is gone, so the cache has no images: restore a backup of it,"
            " or run `imgcache rebuild`"
        )
    raise ConfigurationError(
        f"there is no cache in {folder}: give the folder of a cache or the address of a service"
    )


def use_spool(named: Path | None) -> Path:
    """Decide which spool a command uses, and print it on standard error.

    Args:
        named: the folder in the option or in the environment; None if there is none.

    Raises:
        ConfigurationError: the settings of the project are wrong.
    """
    project = project_folder() if named is None else None
    if project is None:
        folder = home_expanded(named or SPOOL_FOLDER).absolute()
        is_missing = named is not None and not folder.exists()
        announce("Spool", f"{folder} (there is no such folder)" if is_missing else folder)
        return folder
    from imgcache_scrapy.plugin.project import read_project_settings  # noqa: PLC0415

    folder = read_project_settings(project).spool_dir
    announce("Spool", f"{folder} (of the Scrapy project {project})")
    return folder


def announce(what: str, where: object) -> None:
    """Print on standard error which cache or spool a command uses."""
    typer.echo(f"{what}: {where}", err=True)


def open_client(location: Location, timeout: float | None = 30.0) -> ImgCacheClient:
    """Open a client of a cache; the caller closes it.

    Args:
        location: where the cache is.
        timeout: seconds for one call of a service; None for no limit. A folder has no limit,
            because counts in a large catalog take long.
    """
    limit = timeout if location.folder is None else None
    return ImgCacheClient(location.address, limit, **location.client_options)


def project_folder() -> Path | None:
    """Return the current folder, or the closest parent, that has a `scrapy.cfg`; None without.

    `scrapy imgcache` gives its settings also where there is no such file.
    """
    here = Path.cwd()
    found = next((each for each in (here, *here.parents) if (each / "scrapy.cfg").exists()), None)
    return here if found is None and SETTINGS_VARIABLE in os.environ else found


def _folder_and_variables(folder: Path) -> str:
    """Return the folder, and which variables replace its catalog or blobs.

    The values of the variables are left out, because they may contain passwords.
    """
    variables = {"catalog": "IMGCACHE_DATABASE_URL", "blobs": "IMGCACHE_BLOBS_URL"}
    replaced = [f"{part} of {name}" for part, name in variables.items() if os.environ.get(name)]
    return ", ".join(replaced if len(replaced) == len(variables) else [str(folder), *replaced])
