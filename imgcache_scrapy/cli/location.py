"""Which cache and which spool a command uses: the named one, else the project's, else a default."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from imgcache_scrapy.client.address import folder_of
from imgcache_scrapy.client.client import ImgCacheClient
from imgcache_scrapy.client.spool import SPOOL_FOLDER
from imgcache_scrapy.core.errors import ConfigurationError

DEFAULT_CACHE = "imgcache"

CacheArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="CACHE",
        envvar="IMGCACHE_URL",
        help="http(s)://host:port of a service, or the folder of an embedded cache. "
        "Default: the cache of the Scrapy project here, else ./imgcache.",
    ),
]
SpoolOption = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        envvar="IMGCACHE_SPOOL_DIR",
        help="The folder of the spool. "
        f"Default: the spool of the Scrapy project here, else {SPOOL_FOLDER}.",
    ),
]


@dataclass(frozen=True)
class Location:
    """Where a cache is.

    Attributes:
        address: `http(s)://…`, `file://…` or a path, as it was named.
        project: the folder of the Scrapy project whose crawls use it; None where it was named, or
            where there is no project.
        token: the bearer token of the service; None for none.
        bucket: the bucket that the project's crawls look in.
    """

    address: str
    project: Path | None = None
    token: str | None = None
    bucket: str = ""

    @property
    def folder(self) -> Path | None:
        """The folder of an embedded cache; None for a service."""
        return folder_of(self.address)

    def __str__(self) -> str:
        folder = self.folder
        text = _without_secrets(self.address) if folder is None else _with_halves(folder)
        return text if self.project is None else f"{text} (of the Scrapy project {self.project})"


def find_cache(named: str | None) -> Location:
    """Decide which cache a command uses.

    Args:
        named: the address in the argument or in the environment.

    Raises:
        ConfigurationError: it is no address, or the project's settings are wrong.
    """
    token = os.environ.get("IMGCACHE_TOKEN")
    if named is not None:
        # A project's token is a secret between its crawls and their service.
        return Location(named, token=token)
    project = project_folder()
    if project is None:
        return Location(DEFAULT_CACHE, token=token)
    # Not at the top: only commands inside of a project need Scrapy.
    from imgcache_scrapy.plugin.project import read_project_settings  # noqa: PLC0415

    settings = read_project_settings(project)
    return Location(settings.url, project, token or settings.token, settings.bucket)


def use_cache(named: str | None) -> Location:
    """Decide which cache a command uses, say so on standard error, and check that it exists.

    Args:
        named: the address in the argument or in the environment.

    Raises:
        ConfigurationError: there is no cache, or the project's settings are wrong.
    """
    location = find_cache(named)
    announce("Cache", location)
    folder = location.folder
    if folder is not None and not folder.exists() and "IMGCACHE_DATABASE_URL" not in os.environ:
        raise ConfigurationError(f"there is no cache in {folder}: name its folder or its service")
    return location


def use_spool(named: Path | None) -> Path:
    """Decide which spool a command uses, and say so on standard error.

    Args:
        named: the folder in the option or in the environment.

    Raises:
        ConfigurationError: the project's settings are wrong.
    """
    project = project_folder() if named is None else None
    if project is None:
        folder = (named or SPOOL_FOLDER).absolute()
        announce("Spool", folder)
        return folder
    from imgcache_scrapy.plugin.project import read_project_settings  # noqa: PLC0415

    folder = Path(read_project_settings(project).spool_dir).absolute()
    announce("Spool", f"{folder} (of the Scrapy project {project})")
    return folder


def announce(what: str, where: object) -> None:
    """Say on standard error what a command uses."""
    typer.echo(f"{what}: {where}", err=True)


def open_client(location: Location) -> ImgCacheClient:
    """Open a client of a cache; it is closed by the caller."""
    return ImgCacheClient(location.address, token=location.token, bucket=location.bucket)


def project_folder() -> Path | None:
    """Return the closest folder upward with a `scrapy.cfg`, None where there is none."""
    here = Path.cwd()
    return next((each for each in (here, *here.parents) if (each / "scrapy.cfg").exists()), None)


def _without_secrets(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _with_halves(folder: Path) -> str:
    """Name the variables that replace the halves, but not their values, which hold passwords."""
    halves = {"catalog": "IMGCACHE_DATABASE_URL", "blobs": "IMGCACHE_BLOBS_URL"}
    replaced = [f"{half} of {name}" for half, name in halves.items() if os.environ.get(name)]
    return ", ".join(replaced if len(replaced) == len(halves) else [str(folder), *replaced])
