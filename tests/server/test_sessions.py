"""Cookies and CSRF tokens: which ones are accepted, and what is in them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcache_scrapy.server import sessions as module
from imgcache_scrapy.server.sessions import Session, Sessions

TOKEN = "a-token-of-40-characters-or-more-or-less"
CACHE_ID = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def sessions():
    return Sessions(TOKEN, CACHE_ID)


def cookies_of(header):
    name, _, value = header.partition(";")[0].partition("=")
    return {name: value}


@pytest.mark.parametrize("is_signed_in", [False, True])
@pytest.mark.parametrize("is_secure", [False, True])
def test_a_cookie_is_read_by_every_process(sessions, is_signed_in, is_secure):
    """A cookie that one process gives is read by another one with the same token."""
    session = sessions.start(is_signed_in=is_signed_in)
    cookies = cookies_of(sessions.cookie(session, is_secure=is_secure))
    others = Sessions(TOKEN, CACHE_ID)
    assert others.read(cookies, is_secure=is_secure) == session
    assert others.is_csrf_token(session, sessions.csrf_token(session))
    assert others.read(cookies, is_secure=not is_secure) is None


def test_the_attributes_of_a_cookie(sessions):
    """No script sees a cookie, no other site sends it, and under TLS it is bound to this host."""
    session = sessions.start()
    plain = sessions.cookie(session, is_secure=False)
    assert plain.startswith(f"imgcache-{CACHE_ID}=")
    secure = sessions.cookie(session, is_secure=True)
    assert secure.startswith(f"__Host-imgcache-{CACHE_ID}=")
    for header in (plain, secure):
        assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=604800"} <= set(
            header.split("; ")
        )
        assert "Domain" not in header
        assert TOKEN not in header
    assert "Secure" in secure.split("; ")
    assert "Secure" not in plain.split("; ")
    assert "Max-Age=0" in sessions.no_cookie(is_secure=True)


@pytest.mark.parametrize(
    "others", [Sessions("another token", CACHE_ID), Sessions(TOKEN, "f" * 32), Sessions(None, "a")]
)
def test_a_new_token_or_cache_ends_sessions(sessions, others):
    """A cookie of another token or of another cache is not accepted."""
    session = sessions.start(is_signed_in=True)
    value = next(iter(cookies_of(sessions.cookie(session, is_secure=False)).values()))
    names = cookies_of(others.cookie(session, is_secure=False))
    assert others.read(dict.fromkeys(names, value), is_secure=False) is None
    assert not others.is_csrf_token(session, sessions.csrf_token(session))


def test_a_session_ends(sessions, monkeypatch):
    """A session ends, also if the browser keeps the cookie."""
    monkeypatch.setattr(module, "LIFETIME", timedelta(seconds=-1))
    session = sessions.start(is_signed_in=True)
    monkeypatch.undo()
    cookies = cookies_of(sessions.cookie(session, is_secure=False))
    assert sessions.read(cookies, is_secure=False) is None


def test_a_changed_cookie_is_refused(sessions):
    """Not one character of a cookie can be changed, for example to be signed in."""
    session = sessions.start()
    (name, value), *_ = cookies_of(sessions.cookie(session, is_secure=False)).items()
    for position, character in enumerate(value):
        other = "0" if character != "0" else "1"
        # The last one has two bits that mean nothing.
        if position != len(value) - 1:
            changed = value[:position] + other + value[position + 1 :]
            assert sessions.read({name: changed}, is_secure=False) is None
    signed = value.rpartition(".")[2]
    forged = f"{session.id}.1.{session.expires}.{signed}"
    assert sessions.read({name: forged}, is_secure=False) is None


@given(value=st.text(), given_token=st.text())
def test_any_text_is_refused(sessions, value, given_token):
    """No text that a client may send as a cookie or a CSRF token is an error, or accepted."""
    assert sessions.read({f"imgcache-{CACHE_ID}": value}, is_secure=False) is None
    assert not sessions.is_csrf_token(Session("id", is_signed_in=True, expires=0), given_token)


def test_each_session_has_its_own_csrf_token(sessions):
    """The CSRF token of one session is wrong in another one, and is no signature of a cookie."""
    one, other = sessions.start(), sessions.start()
    assert one.id != other.id
    assert not sessions.is_csrf_token(other, sessions.csrf_token(one))
    name = next(iter(cookies_of(sessions.cookie(one, is_secure=False))))
    forged = f"{one.id}.{sessions.csrf_token(one)}"
    assert sessions.read({name: forged}, is_secure=False) is None
