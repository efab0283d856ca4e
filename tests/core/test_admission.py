"""What may be kept: every reason to refuse a body by its first bytes, and their order."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgcache_scrapy.core.admission import (
    ACCEPTED_STATUSES,
    MESSAGES,
    Reason,
    is_in_doubt,
    is_picture,
    refusal,
)
from imgcache_scrapy.core.limits import MAX_IMAGE_BYTES
from tests.support.pictures import encoded

PNG = encoded(Image.new("RGB", (5, 4), "teal"), "PNG")


def test_a_whole_image_may_be_kept():
    """There is no reason to refuse an image that is whole, and no doubt."""
    assert refusal(PNG) is None
    assert not is_in_doubt(PNG)


def test_no_bytes_are_refused_as_empty():
    """An empty body is empty before it is anything else."""
    assert refusal(b"") == "empty"


def test_a_page_is_refused_as_html():
    """That a page is no image says more than that it is too large."""
    assert refusal(b"<!doctype html><svg>", max_bytes=5) == "html"


@pytest.mark.parametrize("body", [b"not found", b'{"error": 404}', b"\0" * 50, b"%PDF-1.7"])
def test_other_content_is_refused_as_no_image(body):
    """What begins like no format that we know is no image, however long it is."""
    assert refusal(body, max_bytes=5) == "not_image"


def test_an_image_above_the_limit_is_refused_as_too_large():
    """The limit itself is allowed, and without one the limit of the cache holds."""
    assert refusal(PNG, max_bytes=len(PNG)) is None
    assert refusal(PNG, max_bytes=len(PNG) - 1) == "too_large"
    assert refusal(PNG.ljust(MAX_IMAGE_BYTES, b"\0")) is None
    assert refusal(PNG.ljust(MAX_IMAGE_BYTES + 1, b"\0")) == "too_large"


@given(cut=st.integers(min_value=8, max_value=len(PNG) - 1))
def test_an_image_without_its_end_is_in_doubt(cut):
    """The image itself tells that something is missing, but only a decoder knows if it matters."""
    assert refusal(PNG[:cut]) is None
    assert is_in_doubt(PNG[:cut])


@given(body=st.binary())
def test_every_refusal_has_a_message(body):
    """Whatever arrives, the answer is None or a reason that can be told."""
    assert refusal(body) in {None, *MESSAGES}


def test_messages_tell_each_reason_in_its_own_words():
    """No reason is left without words, and no two share them."""
    assert set(MESSAGES) == set(get_args(Reason))
    assert len(set(MESSAGES.values())) == len(MESSAGES)


@pytest.mark.parametrize("status", [204, 206, 301, 304, 404, 500])
def test_partial_and_failed_answers_are_not_accepted(status):
    """Only answers that carry the whole content count, and 206 carries a part."""
    assert status not in ACCEPTED_STATUSES


def test_plain_success_is_accepted():
    """200 and its variants for created and transformed content carry the image."""
    assert {200, 201, 203} == ACCEPTED_STATUSES


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("image/png", True),
        ("image/svg+xml", True),
        ("text/html", False),
        ("application/octet-stream", False),
    ],
)
def test_an_entry_says_itself_whether_it_is_a_picture(content_type, expected):
    """Every type of a picture begins alike, and other bytes have another type."""
    assert is_picture({"content_type": content_type}) == expected
