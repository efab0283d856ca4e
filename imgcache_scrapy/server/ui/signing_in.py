"""The page to sign in to a service with a token, and the form to sign out."""

import logging
import math
from hmac import compare_digest
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from imgcache_scrapy.core.text import quoted
from imgcache_scrapy.server.throttle import Throttle
from imgcache_scrapy.server.tokens import SIGN_IN, is_secure, local_path
from imgcache_scrapy.server.ui.access import AnyForm, Form, SignedIn, access_of, is_own
from imgcache_scrapy.server.ui.pages import HEADERS, Pages

logger = logging.getLogger(__name__)


def add_signing_in(router: APIRouter, pages: Pages, token: str | None) -> None:
    """Add the routes to sign in and out.

    Args:
        router: gets the routes.
        pages: makes the page.
        token: the token of the service; None if it has none, so that nobody signs in.
    """
    throttle = Throttle(free=5, free_together=50, interval=2)

    @router.get(SIGN_IN)
    async def sign_in_page(
        visitor: SignedIn, there: Annotated[str, Query(alias="next")] = "/"
    ) -> Response:
        if not token or visitor.can_sign_out:
            return _go(local_path(there))
        return await pages.answer("sign-in", visitor, next=local_path(there), wrong="")

    @router.post(SIGN_IN)
    async def sign_in(request: Request, visitor: SignedIn, form: AnyForm) -> Response:
        there = local_path(form.get("next", ["/"])[0])
        if not is_own(request, form):
            # Another tab may have begun another session, or signed in.
            wrong = "This form was too old. Please try again."
            return await pages.answer("sign-in", visitor, status=401, next=there, wrong=wrong)
        if not token:
            return _go(there)
        address = request.client.host if request.client is not None else ""
        wait = math.ceil(throttle.seconds_to_wait(address))
        if wait > 0:
            seconds = "a second" if wait == 1 else f"{wait} seconds"
            wrong = f"There were too many wrong tokens. Try again in {seconds}."
            answer = await pages.answer("sign-in", visitor, status=429, next=there, wrong=wrong)
            answer.headers["Retry-After"] = str(wait)
            return answer
        if not compare_digest(form.get("token", [""])[0].strip().encode(), token.encode()):
            throttle.note_failure(address)
            logger.warning("A wrong token in the form to sign in, from %s", quoted(address))
            wrong = "This is not the token of this service."
            return await pages.answer("sign-in", visitor, status=401, next=there, wrong=wrong)
        throttle.note_success(address)
        sessions = access_of(request).sessions
        # A new session: somebody else may know the id of the one before.
        cookie = sessions.cookie(sessions.start(is_signed_in=True), is_secure=is_secure(request))
        return _go(there, cookie)

    @router.post("/ui/sign-out")
    async def sign_out(request: Request, form: Form) -> Response:  # noqa: ARG001 - it is checked
        return _go(SIGN_IN, access_of(request).sessions.no_cookie(is_secure=is_secure(request)))


def _go(path: str, cookie: str | None = None) -> Response:
    headers = HEADERS | {"Cache-Control": "no-store"}
    if cookie is not None:
        headers["Set-Cookie"] = cookie
    return RedirectResponse(path, HTTPStatus.SEE_OTHER, headers)
