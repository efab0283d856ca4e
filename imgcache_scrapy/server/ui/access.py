"""Who may look at the page, and who may act on it."""

from typing import Annotated, NamedTuple
from urllib.parse import parse_qs

from fastapi import Depends, Request, Response

from imgcache_scrapy.core.errors import InvalidRequestError, ReadOnlyError, UnauthorizedError
from imgcache_scrapy.server.parameters import actor_of
from imgcache_scrapy.server.sessions import Session, Sessions
from imgcache_scrapy.server.tokens import is_secure

CSRF_FIELD = "csrf_token"
"""The field of each form that has the token which only pages of this service know."""

Fields = dict[str, list[str]]
"""The values of each field of a form."""

# Of a form: more than the pictures that one act takes.
_MAX_FIELDS = 2000


class Access(NamedTuple):
    """What decides who may look and act; the state of the app has it as `access`.

    Attributes:
        sessions: makes and checks the cookies of browsers.
        may_act: False for a service that is only read.
    """

    sessions: Sessions
    may_act: bool = True


class Visitor(NamedTuple):
    """A person who looks at the page.

    Attributes:
        name: who it is, for the audit list.
        csrf_token: what the forms of the page must send.
        may_act: whether the page offers acts; False for a service that is only read.
        can_sign_out: whether the person has signed in.
    """

    name: str
    csrf_token: str
    may_act: bool = True
    can_sign_out: bool = False


async def signed_in(request: Request) -> Visitor:
    """Return who looks at the page; in a service with a token, `TokenMiddleware` has checked it."""
    access = access_of(request)
    session = session_of(request)
    return Visitor(
        f"page {actor_of(request, None)}",
        access.sessions.csrf_token(session),
        access.may_act,
        session.is_signed_in,
    )


SignedIn = Annotated[Visitor, Depends(signed_in)]


def access_of(request: Request) -> Access:
    """Return what decides who may look and act."""
    access: Access = request.app.state.access
    return access


def session_of(request: Request) -> Session:
    """Return the session of a request, or a new one, which `add_cookie` gives to the browser."""
    state = request.state
    if not hasattr(state, "session"):
        sessions = access_of(request).sessions
        known = sessions.read(request.cookies, is_secure=is_secure(request))
        state.session = known or sessions.start()
        state.is_new_session = known is None
    session: Session = state.session
    return session


def add_cookie(request: Request, response: Response) -> None:
    """Let the browser keep the session of a request, if it is new."""
    if getattr(request.state, "is_new_session", False):
        sessions, session = access_of(request).sessions, session_of(request)
        cookie = sessions.cookie(session, is_secure=is_secure(request))
        response.headers.append("Set-Cookie", cookie)


async def read_any_form(request: Request) -> Fields:
    """Read a form, also one that no page of this service has sent.

    Raises:
        InvalidRequestError: the body is not a form.
    """
    try:
        text = (await request.body()).decode()
        return parse_qs(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise InvalidRequestError(f"the form cannot be read: {error}") from error


AnyForm = Annotated[Fields, Depends(read_any_form)]
"""A form that nothing has checked."""


def is_own(request: Request, form: Fields) -> bool:
    """Return whether a form has the CSRF token of the session, which only our pages know."""
    given = form.get(CSRF_FIELD, [""])[0]
    return access_of(request).sessions.is_csrf_token(session_of(request), given)


async def read_form(request: Request, form: AnyForm) -> Fields:
    """Read a form, and check its CSRF token.

    Raises:
        UnauthorizedError: no page of this service has sent the form.
    """
    if not is_own(request, form):
        raise UnauthorizedError("this form is too old: open the page again, and repeat the act")
    return form


Form = Annotated[Fields, Depends(read_form)]
"""A form that may read, such as a download."""


async def read_act(form: Form, visitor: SignedIn) -> Fields:
    """Read a form that changes the cache.

    Raises:
        ReadOnlyError: the service is only read.
    """
    if not visitor.may_act:
        raise ReadOnlyError("this service is only read: start it without --read-only")
    return form


ActForm = Annotated[Fields, Depends(read_act)]
"""A form that changes the cache."""
