"""Answer every error as problem+json (RFC 9457)."""

import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imgcache_scrapy.core.errors import ImgCacheError, InvalidRequestError, error_for_status
from imgcache_scrapy.core.text import quoted

logger = logging.getLogger(__name__)


class Problem(BaseModel):
    """The body of an answer that reports an error.

    Attributes:
        code: the name of the error for programs.
        status: the HTTP status.
        detail: a sentence for people.
    """

    code: str
    status: int
    detail: str


PROBLEM = {"application/problem+json": {"schema": Problem.model_json_schema()}}
"""The content of an answer that reports an error, for the OpenAPI document."""

TOO_SLOW: dict[int | str, dict[str, Any]] = {
    408: {"description": "The body arrived too slowly.", "content": PROBLEM}
}


def documented(*errors: type[ImgCacheError]) -> dict[int | str, dict[str, Any]]:
    """Return the description of errors for the OpenAPI document of a route."""
    return {
        error.status: {"description": (error.__doc__ or "").splitlines()[0], "content": PROBLEM}
        for error in errors
    }


def validation_detail(errors: Iterable[Mapping[str, Any]]) -> str:
    """Return one sentence that names all errors that pydantic found."""
    return "; ".join(
        f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}" for error in errors
    )


def answer_with_problems(app: FastAPI) -> None:
    """Make an app answer every error as problem+json."""

    async def on_cache_error(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ImgCacheError)  # noqa: S101
        return problem(error.code, error.status, str(error))

    async def on_validation_error(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        return problem(
            InvalidRequestError.code, InvalidRequestError.status, validation_detail(error.errors())
        )

    async def on_method_not_allowed(request: Request, error: Exception) -> JSONResponse:
        # Starlette lists only the methods of one route, but a path may have several routes.
        path = request.scope["route"].path
        assert isinstance(error, HTTPException)  # noqa: S101
        routes = [
            route
            for route in app.routes
            if getattr(route, "path", None) == path and getattr(route, "include_in_schema", True)
        ]
        methods = {method for route in routes for method in getattr(route, "methods", ())}
        allowed = ", ".join(sorted(methods))
        code = error_for_status(error.status_code).code
        detail = f"the method {request.method} is not allowed here: use {allowed}"
        return problem(code, error.status_code, detail, {"Allow": allowed})

    async def on_http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101
        kind = error_for_status(error.status_code)
        # FastAPI uses another status for a body that is not JSON.
        status = kind.status if kind is InvalidRequestError else error.status_code
        detail = str(error.detail)
        if "route" not in request.scope and status == HTTPStatus.NOT_FOUND:
            detail = f"this service has no {quoted(request.url.path)}: /docs lists its API"
        return problem(kind.code, status, detail, error.headers)

    app.add_exception_handler(ImgCacheError, on_cache_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(405, on_method_not_allowed)
    app.add_middleware(UnexpectedErrorMiddleware)


class UnexpectedErrorMiddleware:
    """Answers 500 after an unexpected error.

    An exception handler is not enough: Starlette raises the error again after it, and then uvicorn
    closes the connection, so that the next request of the client fails.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; answer 500 if it raises before an answer has begun."""
        has_begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception as error:
            if has_begun or scope["type"] != "http":
                raise
            logger.exception("A request failed: %s", type(error).__name__)
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            answer = problem(ImgCacheError.code, status, "the cache failed; its log says why")
            await answer(scope, receive, send)


def problem(
    code: str, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return an answer that reports an error.

    Args:
        code: the name of the error for programs.
        status: the HTTP status.
        detail: a sentence for people.
        headers: additional headers.
    """
    return JSONResponse(
        Problem(code=code, status=status, detail=detail).model_dump(),
        status_code=status,
        headers=headers,
        media_type="application/problem+json",
    )
