"""Sessions: the signed cookie of a browser, and the CSRF token that belongs to it.

A cookie has a random id, whether its browser has signed in, and when it expires. The key of its
signature is derived from the token of the service. So all processes agree without a table, and a
new token signs everybody out. A browser gets a cookie before it signs in, too, and in a service
without a token: the CSRF token in each form is a signature of the id in the cookie.
"""

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from imgcache_scrapy.core.signing import is_signature, signature_of

LIFETIME = timedelta(days=7)
"""How long a session lasts."""

_MAX_LENGTH = 300


class Session(NamedTuple):
    """A session of a browser.

    Attributes:
        id: a random text, which only the browser knows.
        is_signed_in: whether the browser has given the token.
        expires: when it ends, in seconds since 1970.
    """

    id: str
    is_signed_in: bool
    expires: int


class Sessions:
    """Makes and checks sessions.

    Args:
        token: the token of the service; None if it has none.
        cache_id: the id of the cache. It is in the name of the cookie, because a browser sends the
            cookies of one service to the others of the same machine.
    """

    def __init__(self, token: str | None, cache_id: str) -> None:
        # Without a token everybody may have a session, and the signature proves nothing.
        self._secret = token or cache_id
        self._purpose = f"session {cache_id}"
        self._name = f"imgcache-{cache_id}"
        # Derives the key now, because that would block the event loop.
        signature_of(self._secret, self._purpose, "")

    def start(self, *, is_signed_in: bool = False) -> Session:
        """Return a new session."""
        expires = int((datetime.now(UTC) + LIFETIME).timestamp())
        return Session(secrets.token_urlsafe(24), is_signed_in, expires)

    def read(self, cookies: Mapping[str, str], *, is_secure: bool) -> Session | None:
        """Return the session of a request; None if it has none, or one that is over or forged.

        Args:
            cookies: the cookies of the request, by their names.
            is_secure: whether the request came by TLS.
        """
        text, _, signature = cookies.get(self._cookie_name(is_secure=is_secure), "").rpartition(".")
        if not 0 < len(text) + len(signature) <= _MAX_LENGTH:
            return None
        if not is_signature(self._secret, self._purpose, text, signature):
            return None
        session_id, is_signed_in, expires = text.split(".")
        session = Session(session_id, is_signed_in == "1", int(expires))
        return session if session.expires > datetime.now(UTC).timestamp() else None

    def cookie(self, session: Session, *, is_secure: bool) -> str:
        """Return the header `Set-Cookie` of a session."""
        text = f"{session.id}.{int(session.is_signed_in)}.{session.expires}"
        signed = f"{text}.{signature_of(self._secret, self._purpose, text)}"
        return self._header(signed, int(LIFETIME.total_seconds()), is_secure=is_secure)

    def no_cookie(self, *, is_secure: bool) -> str:
        """Return the header `Set-Cookie` that removes the cookie."""
        return self._header("", 0, is_secure=is_secure)

    def csrf_token(self, session: Session) -> str:
        """Return what the forms of a session must send."""
        return signature_of(self._secret, f"form {self._purpose}", session.id)

    def is_csrf_token(self, session: Session, given: str) -> bool:
        """Return whether a form was made for a session."""
        return is_signature(self._secret, f"form {self._purpose}", session.id, given)

    def _cookie_name(self, *, is_secure: bool) -> str:
        # Browsers let no other host and no page without TLS set a cookie with this prefix.
        return f"__Host-{self._name}" if is_secure else self._name

    def _header(self, value: str, seconds: int, *, is_secure: bool) -> str:
        name = self._cookie_name(is_secure=is_secure)
        header = f"{name}={value}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict"
        return f"{header}; Secure" if is_secure else header
