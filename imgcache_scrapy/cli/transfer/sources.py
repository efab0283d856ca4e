"""Find what is to import: in a folder, by the feed of a crawl, or by a manifest."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from imgcache_scrapy.cli.transfer import http_cache
from imgcache_scrapy.cli.transfer.confined import BadFileError, ConfinedFolder
from imgcache_scrapy.cli.transfer.rows import parsed_cell, rows_of
from imgcache_scrapy.cli.transfer.tasks import Defaults, Place, Task
from imgcache_scrapy.cli.transfer.uses import use_of_item, uses_of_row
from imgcache_scrapy.core.checks import checked_time
from imgcache_scrapy.core.entry import is_content_hash
from imgcache_scrapy.core.errors import ConfigurationError, InvalidRequestError
from imgcache_scrapy.core.text import printable, quoted

FILE_COLUMNS = ("file_name", "path", "filename", "file")
"""The columns that may name the file of a row; the first one that there is counts."""

_JPEG_SUFFIXES = {".jpg", ".jpeg"}


class Problem(NamedTuple):
    """Something that is not imported or exported.

    Attributes:
        file: the file, the line or the image.
        reason: why.
    """

    file: str
    reason: str


class Columns(NamedTuple):
    """The columns of a manifest.

    Attributes:
        file: the column with the path of the file; None for one of `FILE_COLUMNS`.
        url: the column with the URL.
        time: the column with the time when the image was fetched.
    """

    file: str | None = None
    url: str = "url"
    time: str = "lookup_time"


# None is something that is no picture, and is not expected to be one: a page in an HttpCache.
Found = Iterator[Task | Problem | None]


def in_folder(folder: ConfinedFolder, defaults: Defaults, excluded: Path | None = None) -> Found:
    """Find the files of a folder, and the responses of an HttpCache; hidden files are left out.

    Args:
        folder: the folder.
        defaults: what the captures have in common.
        excluded: a folder in it that is left out.
    """
    for here, folders, names in os.walk(folder.root):
        path = Path(here)
        folders[:] = sorted(
            each for each in folders if not each.startswith(".") and path / each != excluded
        )
        relative = path.relative_to(folder.root)
        if http_cache.is_stored_folder(path):
            folders.clear()
            yield from _tried(relative, partial(_in_stored_folder, folder, relative, defaults))
            continue
        databases = set()
        for name in sorted(each for each in names if not each.startswith(".")):
            database = http_cache.database_at(path / name)
            if database is None:
                yield from _tried(
                    relative / name, partial(_plain_file, folder, relative / name, defaults)
                )
            elif database not in databases:
                databases.add(database)
                yield from _in_database(folder, database, defaults)


def in_feed(
    folder: ConfinedFolder, feed: Path, defaults: Defaults, field: str | None = None
) -> Found:
    """Find the results in the items of a feed: those with a `url` and a `path`.

    Args:
        folder: the `IMAGES_STORE` or `FILES_STORE`.
        feed: the feed.
        defaults: what the captures have in common.
        field: the field of the items that has the results; None for every field.
    """
    for row in rows_of(feed):
        if isinstance(row, BadFileError):
            yield Problem(feed.name, str(row))
            continue
        where, _, item = row
        if not isinstance(item, dict):
            yield Problem(f"{feed.name}, {where}", "it is not an item")
            continue
        for name, position, result in _results(item, field):
            uses = use_of_item(item, position, result["url"])
            yield from _tried(
                result["path"],
                partial(_of_result, folder, name, {**result, "uses": uses}, defaults),
            )


def in_manifest(
    folder: ConfinedFolder, manifest: Path, defaults: Defaults, columns: Columns
) -> Found:
    """Find the files that a manifest names.

    Args:
        folder: the folder to which the names are relative.
        manifest: `{filename: {"url": …}}` as .json, or rows with columns.
        defaults: what the captures have in common.
        columns: the names of the columns.

    Raises:
        ConfigurationError: the manifest cannot be read, or no row has the column of the URLs, or
            the one that was named for times.
    """
    missing, has_rows = _not_found_yet(columns), False
    for row in rows_of(manifest):
        if isinstance(row, BadFileError):
            yield Problem(manifest.name, str(row))
            continue
        where, key, facts = row
        facts = {columns.url: facts} if isinstance(facts, str) else facts
        name = _file_of(key, facts, columns)
        if name is None:
            wanted = columns.file or " or ".join(FILE_COLUMNS)
            yield Problem(f"{manifest.name}, {where}", f"it names no file in its column {wanted}")
            continue
        has_rows = True
        missing = {column: option for column, option in missing.items() if column not in facts}
        yield from _tried(name, partial(_of_row, folder, name, facts, columns, defaults))
    for column, option in missing.items() if has_rows else ():
        raise ConfigurationError(f"{manifest} has no column {quoted(column)}: see {option}")


def _not_found_yet(columns: Columns) -> dict[str, str]:
    """Return the columns that some rows may lack, but not all of them, and their options."""
    found, default = {}, Columns()
    if columns.time != default.time:
        found[columns.time] = "--time-column"
    if columns.url == default.url:  # If it was named, each row must have it.
        found[columns.url] = "--url-column"
    return found


def _tried(name: object, find: Callable[[], Iterator[Task | None]]) -> Found:
    try:
        yield from find()
    except (BadFileError, InvalidRequestError) as error:
        yield Problem(printable(name), str(error))


def _plain_file(folder: ConfinedFolder, name: Path, defaults: Defaults) -> Iterator[Task]:
    _, facts = folder.find(str(name))
    place = Place("file", str(name)).packed()
    url = (folder.root / name).as_uri()
    yield defaults.task(place, url, facts.st_size, facts.st_mtime)


def _in_stored_folder(
    folder: ConfinedFolder, name: Path, defaults: Defaults
) -> Iterator[Task | None]:
    stored = http_cache.stored_in_folder(folder, str(name), with_body=False)
    if not stored.is_answer:
        yield None
        return
    # The folders are SPIDER/xx/FINGERPRINT.
    spider = (folder.root / name).parent.parent.name
    size = folder.find(f"{name}/response_body")[1].st_size
    yield from _of_stored(Place("folder", str(name)), stored, size, spider, defaults)


def _in_database(folder: ConfinedFolder, path: Path, defaults: Defaults) -> Found:
    name = str(path.relative_to(folder.root))
    try:
        for part in path.parent.glob(f"{path.name}*"):
            folder.find(str(part.relative_to(folder.root)))
        for key, stored in http_cache.stored_in_database(path):
            if isinstance(stored, BadFileError):
                yield Problem(f"{printable(name)}, {printable(key)}", str(stored))
            elif not stored.is_answer:
                yield None
            else:
                place = Place("database", name, key)
                yield from _tried(
                    name, partial(_of_stored, place, stored, len(stored.body), path.stem, defaults)
                )
    except BadFileError as error:
        yield Problem(printable(name), str(error))


def _of_stored(
    place: Place, stored: http_cache.Stored, size: int, spider: str, defaults: Defaults
) -> Iterator[Task]:
    task = defaults.task(
        place.packed(),
        stored.url,
        size,
        stored.time,
        client_name=spider,
        headers=stored.headers,
        accept=stored.accept,
    )
    yield task._replace(has_time=stored.time > 0)


def _results(item: dict[str, Any], field: str | None) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for name, value in item.items():
        if field is not None and name != field:
            continue
        found = parsed_cell(value) if isinstance(value, str) else value
        for position, result in enumerate(found if isinstance(found, list) else [found], 1):
            if isinstance(result, dict) and all(
                isinstance(result.get(part), str) for part in ("url", "path")
            ):
                yield name, position, result


def _of_result(
    folder: ConfinedFolder, field: str, result: dict[str, Any], defaults: Defaults
) -> Iterator[Task]:
    path, facts = folder.find(result["path"])
    place = Place("file", str(path.relative_to(folder.root))).packed()
    known: dict[str, Any] = {"uses": result["uses"]}
    with suppress(InvalidRequestError):
        known["lookup_time"] = str(checked_time(str(result.get("lookup_time"))))
    if is_content_hash(result.get("content_hash")):
        known["content_hash"] = result["content_hash"]
    # Scrapy's ImagesPipeline writes only JPEGs; its FilesPipeline writes what the site sent.
    known["converted"] = field != "files" and path.suffix.lower() in _JPEG_SUFFIXES
    yield defaults.task(place, result["url"], facts.st_size, facts.st_mtime, **known)


def _file_of(key: str | None, facts: Any, columns: Columns) -> str | None:
    if not isinstance(facts, dict):
        return None
    if key is not None and columns.file is None:
        return key
    names = FILE_COLUMNS if columns.file is None else (columns.file,)
    found = next((facts[each] for each in names if facts.get(each)), key)
    return found if isinstance(found, str) else None


def _of_row(
    folder: ConfinedFolder, name: str, row: dict[str, Any], columns: Columns, defaults: Defaults
) -> Iterator[Task]:
    path, facts = folder.find(name)
    place = Place("file", str(path.relative_to(folder.root))).packed()
    parsed = {
        each: parsed_cell(value) if isinstance(value, str) else value
        for each, value in row.items()
        if each is not None
    }
    captures = parsed.get("captures")
    for capture in captures if isinstance(captures, list) and captures else [parsed]:
        if not isinstance(capture, dict):
            raise InvalidRequestError("one of its captures is not an object")
        uses = uses_of_row(parsed, capture)
        known = {**capture, "uses": uses, "lookup_time": capture.get(columns.time)}
        known["converted"] = str(capture.get("converted")).lower() in {"true", "1", "yes"}
        if columns.url != Columns().url and columns.url not in known:
            raise InvalidRequestError(f"it has no column {quoted(columns.url)}")
        url = known.pop(columns.url, None) or path.as_uri()
        for fact in ("place", "url", "size", "modified"):
            known.pop(fact, None)
        yield defaults.task(place, url, facts.st_size, facts.st_mtime, **known)
