"""Place: where a cache is that is copied, or where its copy is."""

from dataclasses import dataclass
from pathlib import Path

from imgcache_scrapy.client.address import folder_of, without_secrets
from imgcache_scrapy.core.errors import ConfigurationError, UnavailableError
from imgcache_scrapy.core.text import reason_of
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.database import database_call, sqlite_url
from imgcache_scrapy.engine.catalog.empty import EmptyCatalog
from imgcache_scrapy.engine.catalog.sqlite import (
    DatabaseUrl,
    NoCatalogError,
    identity_of,
    path_of,
)
from imgcache_scrapy.engine.location import BLOBS_NAME, CATALOG_NAME


@dataclass(frozen=True)
class Place:
    """Where a cache is: in a folder, elsewhere with one half or both, or behind a service.

    Attributes:
        address: a folder, as a path or `file:///folder`; `http(s)://…` for a service; None if there
            are both URLs.
        database: the URL of the catalog, if it is not in the folder.
        blobs: the URL of the blobs, if they are not in the folder.
    """

    address: str | None = None
    database: str | None = None
    blobs: str | None = None

    @property
    def is_service(self) -> bool:
        """Whether it is a service.

        Raises:
            ConfigurationError: the address is not valid; or there are URLs beside a service.
        """
        is_one = self.address is not None and folder_of(self.address) is None
        if is_one and (self.database or self.blobs):
            raise ConfigurationError(f"{self} is a service: name it without a database and blobs")
        return is_one

    @property
    def folder(self) -> Path | None:
        """The folder that has the catalog, the blobs or both; None if it has neither."""
        if self.address is None or (self.database and self.blobs):
            return None
        return folder_of(self.address)

    @property
    def urls(self) -> tuple[DatabaseUrl, str]:
        """The URLs of the catalog and the blobs.

        Raises:
            ConfigurationError: one of them is missing.
        """
        folder = self.folder
        if folder is not None:
            database = self.database or sqlite_url(folder / CATALOG_NAME)
            return database, self.blobs or (folder / BLOBS_NAME).as_uri()
        if self.database and self.blobs:
            return self.database, self.blobs
        raise ConfigurationError("name a cache by its folder, or by its database and its blobs")

    def __str__(self) -> str:
        if self.address is not None and folder_of(self.address) is None:
            return without_secrets(self.address)
        parts = [] if self.folder is None else [str(self.folder)]
        for name, url in (("catalog", self.database), ("blobs", self.blobs)):
            if url:
                parts.append(f"{name} {without_secrets(url)}")
        return ", ".join(parts)

    def open(self, *, create: bool) -> ImageCache:
        """Open the cache; the caller closes it.

        Args:
            create: whether to create it, and its folder, if there is none.

        Raises:
            ConfigurationError: there is no cache, or the URLs do not belong together.
            UnavailableError: it cannot be reached.
        """
        urls = self.urls
        if create and self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UnavailableError(
                    f"the cache cannot be created: {reason_of(error)}"
                ) from error
        return ImageCache(*urls, create=create)

    def open_catalog(self) -> Catalog:
        """Open the catalog to read it only; an empty one if there is no cache."""
        try:
            return database_call(Catalog)(self.urls[0], upgrade=False, create=False)
        except ConfigurationError as error:
            if isinstance(error.__cause__, NoCatalogError):
                return EmptyCatalog()
            raise

    def is_same(self, other: "Place") -> bool:
        """Return whether the catalog is the same as that of another place."""
        (own, _), (its, _) = self.urls, other.urls
        file, its_file = path_of(own), path_of(its)
        if file is None or its_file is None:
            return own == its
        identity = identity_of(file)
        return file == its_file or (identity is not None and identity == identity_of(its_file))
