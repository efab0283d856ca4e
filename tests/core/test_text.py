"""Texts of strangers in log lines and messages."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcache_scrapy.core.text import _CREDENTIALS, printable, quoted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://h.example/a.jpg?b=c@d", "http://h.example/a.jpg?b=c@d"),
        ("http://me:secret@h.example/a.jpg", "http://h.example/a.jpg"),
        ("<200 https://me@h.example/>: a@b", "<200 https://h.example/>: a@b"),
        ("http://me:p@ss@h.example/ and ftp://x:y@z", "http://h.example/ and ftp://z"),
        ("no address: me:secret@h.example", "no address: h.example"),
        ("/:me:secret@h.example/::b", "/h.example/::b"),
        ("me@home:secret@h.example", "me@h.example"),
        ("http://me:a secret@h.example/", "http://h.example/"),
        ("http://me:a\nsecret@h.example/a b@c", "http://h.example/a b@c"),
        ("http://h/a\r\nWARNING: b", "http://h/a\\r\\nWARNING: b"),
        ("http://h/\x1b[31mred", "http://h/\\x1b[31mred"),
        ("http://h/\ud800\u202e", "http://h/\\ud800\\u202e"),
        ("http://h/ü日", "http://h/ü日"),
    ],
)
def test_a_text_is_shown_in_one_line(text, shown):
    """Without credentials, and with escapes for what a terminal would obey."""
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["a", "a:", "://", "://a:", "a@", " a:b"])
@pytest.mark.parametrize("end", ["@", " @", ""])
def test_the_time_for_a_text_is_linear(text, end):
    """A hostile URL does not stop the event loop: this takes milliseconds, not minutes."""
    before = time.thread_time()
    _CREDENTIALS.sub("", text * (200_000 // len(text)) + end)
    assert time.thread_time() - before < 10


@given(st.text())
def test_any_text_is_printable(text):
    """And can be written to any log."""
    assert printable(text).isprintable()
    printable(text).encode()


@pytest.mark.parametrize(
    "text", ["a:" * 5000 + " @", "a" * 9990 + ":/@", ":a" * 4990 + " @", "://a" * 2500 + " @"]
)
def test_no_text_takes_long(text):
    """The time does not grow with the square of the length: a hundred texts take no minute."""
    start = time.process_time()
    for _ in range(100):
        quoted(text)
        assert time.process_time() - start < 20


def test_a_quoted_text_is_cut():
    """A picture in a URL does not fill the log."""
    assert quoted("data:" + "A" * 10**6, 10) == "'data:AAAAA'"
