"""The table that compares Scrapy's pipelines with ours: files and expectations of each row."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Row:
    """A row of the table.

    Attributes:
        kind: files or images.
        names: names of files on the site, or URLs, that the item contains.
        make: function that gets the pipeline to extend, and returns the class of the row.
        reasons: reasons of the failures that our pipeline reports.
        quiet: True if Scrapy logs a failure of the site with a traceback and ours does not.
        settings: settings of the row, by name without the prefix of the class.
    """

    kind: str
    names: Any = ("a.jpg",)
    make: Callable[[type], type] = lambda base: base
    reasons: list[str] = field(default_factory=list)
    quiet: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


def site_fails(kind, name, reason, **settings):
    """Return a row with a failure that the site causes, and not a hook."""
    return Row(kind, [name], reasons=[reason], quiet=True, settings=settings)


THUMBS = {"s": [9, 9], "m": [20, 20]}
GIF = "data:image/gif;base64,R0lGODlhAQABAAAAADs="
ROWS = {
    "file": Row("files"),
    "file_pdf": Row("files", ["a.pdf"]),
    "file_html": Row("files", ["html.jpg"]),
    "file_cut": Row("files", ["cut.jpg"]),
    "file_404": site_fails("files", "404.jpg", "http_404"),
    "file_500": site_fails("files", "500.jpg", "http_500"),
    "file_empty": site_fails("files", "empty.jpg", "empty"),
    "file_unreachable": site_fails("files", "http://127.0.0.1:1/x.jpg", "connection"),
    "file_about": site_fails("files", "about:invalid", "download"),
    "file_unknown_scheme": site_fails("files", "blob:http://h/1", "download"),
    "file_with_failures": Row("files", ["404.jpg", "a.jpg"], reasons=["http_404"], quiet=True),
    "file_twice": Row("files", ["a.jpg", "a.jpg"]),
    "file_failing_twice": Row("files", ["404.jpg"] * 2, reasons=["http_404"] * 2, quiet=True),
    "file_with_several_spellings": Row(
        "files", ["a.jpg?a=1&b=2", "a.jpg?b=2&a=1", "a.jpg?a=1&b=2#x"]
    ),
    "file_without_field": Row("files"),
    "file_urls_none": Row("files", None),
    "file_urls_tuple": Row("files"),
    "file_no_urls": Row("files", []),
    "file_redirect": Row("files", ["go.jpg"], settings={"MEDIA_ALLOW_REDIRECTS": True}),
    "file_data": Row("files", [GIF]),
    "image": Row("images", ["a.jpg", "b.png", "c.gif"]),
    "image_thumbs": Row("images", settings={"IMAGES_THUMBS": THUMBS}),
    "image_bad_thumbs": Row(
        "images", reasons=["processing"], settings={"IMAGES_THUMBS": {**THUMBS, "x": "bad"}}
    ),
    "image_small": site_fails("images", "a.jpg", "too_small", IMAGES_MIN_WIDTH=999),
    "image_html": site_fails("images", "html.jpg", "html"),
    "image_cut": site_fails("images", "cut.jpg", "truncated"),
    "image_404": site_fails("images", "404.jpg", "http_404"),
    "image_ppm": Row("images", ["a.ppm"]),
    "image_svg": Row("images", ["a.svg"], reasons=["processing"]),
    "image_without_field": Row("images"),
}


def row(kind, names=("a.jpg",), **more):
    """Add a row for a function that creates a class."""

    def add(make):
        ROWS[make.__name__] = Row(kind, names, make, **more)
        return make

    return add


def hook_row(kind, names=("a.jpg",), **more):
    """Add a row for a function that is the only hook of its class."""

    def add(hook):
        name = hook.__name__

        def make(base):
            return type(name, (base,), {name.partition("__")[2]: hook, "base": base})

        ROWS[name] = Row(kind, names, make, **more)
        return hook

    return add
