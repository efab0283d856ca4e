"""Errors as answers: problem+json (RFC 9457), the same shape for every one."""

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

logger = logging.getLogger(__name__)


class Problem(BaseModel):
    """An error as it travels.

    Attributes:
        code: the machine-readable name.
        status: the HTTP status.
        detail: a sentence.
    """

    code: str
    status: int
    detail: str


PROBLEM = {"application/problem+json": {"schema": Problem.model_json_schema()}}
"""The content of an answer that is a problem, for the OpenAPI document."""

TOO_SLOW: dict[int | str, dict[str, Any]] = {
    408: {"description": "The body came too slowly.", "content": PROBLEM}
}


def documented(*errors: type[ImgCacheError]) -> dict[int | str, dict[str, Any]]:
    """Describe errors in the OpenAPI document of a route."""
    return {
        error.status: {"description": (error.__doc__ or "").splitlines()[0], "content": PROBLEM}
        for error in errors
    }


def sentence(errors: Iterable[Mapping[str, Any]]) -> str:
    """Turn what pydantic found wrong into one sentence."""
    return "; ".join(
        f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}" for error in errors
    )


def answer_with_problems(app: FastAPI) -> None:
    """Make the app answer every error as a problem."""

    async def known(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ImgCacheError)  # noqa: S101
        return problem(error.code, error.status, str(error))

    async def invalid(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        return problem(
            InvalidRequestError.code, InvalidRequestError.status, sentence(error.errors())
        )

    async def of_no_method(request: Request, error: Exception) -> JSONResponse:
        # Starlette tells the methods of one route, and a path may have several.
        path = request.scope["route"].path
        assert isinstance(error, HTTPException)  # noqa: S101
        routes = [
            route
            for route in app.routes
            if getattr(route, "path", None) == path and getattr(route, "include_in_schema", True)
        ]
        allowed = sorted({method for route in routes for method in getattr(route, "methods", ())})
        code = error_for_status(error.status_code).code
        return problem(code, error.status_code, error.detail, {"Allow": ", ".join(allowed)})

    async def refused(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101
        kind = error_for_status(error.status_code)
        # FastAPI has a status of its own for JSON that cannot be read at all.
        status = kind.status if kind is InvalidRequestError else error.status_code
        return problem(kind.code, status, str(error.detail), error.headers)

    app.add_exception_handler(ImgCacheError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(405, of_no_method)
    app.add_middleware(UnexpectedErrors)


class UnexpectedErrors:
    """Answers what nobody foresaw.

    An exception handler would not do: Starlette raises the error again behind it, and uvicorn
    then drops the connection under the client's next request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and answer 500 where no answer has begun."""
        has_begun = False

        async def noting(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
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
    """Make the answer that tells an error.

    Args:
        code: the machine-readable name.
        status: the HTTP status.
        detail: a sentence.
        headers: more of them.
    """
    return JSONResponse(
        Problem(code=code, status=status, detail=detail).model_dump(),
        status_code=status,
        headers=headers,
        media_type="application/problem+json",
    )
