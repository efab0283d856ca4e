"""Who may look at the page, and who may act on it."""

import secrets
from typing import Annotated, NamedTuple
from urllib.parse import parse_qs

from fastapi import Depends, Request

from imgcache_scrapy.core.errors import InvalidRequestError, ReadOnlyError, UnauthorizedError
from imgcache_scrapy.server.parameters import actor_of

CSRF_FIELD = "csrf_token"
"""The field of each form that has the token which only pages of this service know."""

Fields = dict[str, list[str]]
"""The values of each field of a form."""

# Of a form: more than the pictures that one act takes.
_MAX_FIELDS = 2000


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
    """Return who looks at the page.

    Raises:
        UnauthorizedError: the service has a token, and the person has not signed in.
    """
    return Visitor(f"page {actor_of(request, None)}", csrf_token_of(request))


SignedIn = Annotated[Visitor, Depends(signed_in)]


def csrf_token_of(request: Request) -> str:
    """Return the token that the forms of a page must send."""
    state = request.app.state
    if not hasattr(state, "csrf_token"):
        state.csrf_token = secrets.token_urlsafe()
    return str(state.csrf_token)


async def read_form(request: Request, visitor: SignedIn) -> Fields:
    """Read a form, and check its CSRF token.

    Raises:
        InvalidRequestError: the body is not a form.
        UnauthorizedError: no page of this service has sent the form.
    """
    try:
        text = (await request.body()).decode()
        fields = parse_qs(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise InvalidRequestError(f"the form cannot be read: {error}") from error
    given = fields.get(CSRF_FIELD, [""])[0]
    if not secrets.compare_digest(given.encode(), visitor.csrf_token.encode()):
        raise UnauthorizedError("this form is too old: open the page again, and repeat the act")
    return fields


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
