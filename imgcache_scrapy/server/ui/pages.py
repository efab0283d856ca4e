"""Make pages of templates, and answer errors with a page."""

import asyncio
import html
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import jinja2
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from imgcache_scrapy.core.errors import ImgCacheError, InvalidRequestError
from imgcache_scrapy.server.ui import texts
from imgcache_scrapy.server.ui.access import Visitor, add_cookie
from imgcache_scrapy.server.ui.assets import Asset
from imgcache_scrapy.server.ui.tiles import tile_of

logger = logging.getLogger(__name__)

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    # Not `no-store`: a browser would then forget the page, and where it was scrolled to.
    "Cache-Control": "private, no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not `no-referrer`: browsers would send forms with the origin "null".
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""The headers of each page: it loads from this service only, and no page shows it in a frame."""
# Where the words of HTTP say nothing to a person.
_TITLES = {401: "Not accepted", 422: "Not understood", 503: "The cache does not answer"}


class Pages:
    """Makes pages of the templates.

    Args:
        assets: the files that pages load.
    """

    def __init__(self, assets: Mapping[str, Asset]) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
            autoescape=True,
            auto_reload=False,
            lstrip_blocks=True,
            trim_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        self._templates.globals["assets"] = {name: each.address for name, each in assets.items()}
        self._templates.globals["address"] = texts.address
        self._templates.filters.update(texts.FILTERS)
        self._templates.filters["tile"] = tile_of

    async def answer(
        self, name: str, visitor: Visitor, *, status: int = HTTPStatus.OK, **values: Any
    ) -> Response:
        """Answer with a page.

        Args:
            name: the name of its template, without `.html`.
            visitor: who looks at it.
            status: the HTTP status.
            values: what the template shows.
        """
        # In a thread: the first use of a template reads it from the disk.
        text = await asyncio.to_thread(self._render, name, {**values, "visitor": visitor})
        return HTMLResponse(text, status, headers=HEADERS)

    def _render(self, name: str, values: dict[str, Any]) -> str:
        return self._templates.get_template(f"{name}.html").render(values, made=time.time_ns())


class PageRoute(APIRoute):
    """A route that answers errors with a page, and HEAD as GET without the body."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        if self.methods and "GET" in self.methods:
            self.methods.add("HEAD")

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that answers a request."""
        answer = super().get_route_handler()

        async def answer_or_explain(request: Request) -> Response:
            response = await explained(request)
            add_cookie(request, response)
            return response

        async def explained(request: Request) -> Response:
            try:
                return await answer(request)
            except ImgCacheError as error:
                return error_page(error.status, str(error))
            except RequestValidationError as error:
                return error_page(InvalidRequestError.status, texts.refusal(error.errors()))
            except HTTPException as error:
                return error_page(error.status_code, str(error.detail))

        return answer_or_explain


def error_page(status: int, detail: str) -> Response:
    """Answer with a page that says what is wrong; it needs no template, which may be the reason."""
    title = _TITLES.get(status, HTTPStatus(status).phrase)
    text = (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title} · imgcache</title>\n"
        '<link rel="icon" href="/ui/static/icon.svg">\n'
        '<link rel="stylesheet" href="/ui/static/page.css">\n'
        f'<main class="notice"><h1>{title}</h1>\n<p>{html.escape(texts.sentence(detail))}</p>\n'
        '<p><a href="/">All pictures</a></p></main>\n</html>\n'
    )
    return HTMLResponse(text, status, headers=HEADERS)
