"""What may be kept: every reason to refuse a body, and their order."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgcache_scrapy.core.admission import ACCEPTED_STATUSES, MESSAGES, Reason, refusal
from tests.support.pictures import encoded

PNG = encoded(Image.new("RGB", (5, 4), "teal"), "PNG")


@pytest.mark.parametrize("content_length", [None, len(PNG), len(PNG) - 1, 0])
def test_a_whole_image_may_be_kept(content_length):
    """An image as long as announced, or longer, is whole by its own account."""
    assert refusal(PNG, content_length=content_length) is None


@pytest.mark.parametrize("content_length", [None, 0, 10])
def test_no_bytes_are_refused_as_empty(content_length):
    """An empty body is empty before it is anything else."""
    assert refusal(b"", content_length=content_length) == "empty"


@pytest.mark.parametrize("content_length", [None, 9999])
def test_a_page_is_refused_as_html(content_length):
    """That a page is no image says more than that it is cut off."""
    assert refusal(b"<!doctype html><svg>", content_length=content_length) == "html"


@pytest.mark.parametrize("body", [b"not found", b'{"error": 404}', b"\0" * 50, b"%PDF-1.7"])
def test_other_content_is_refused_as_no_image(body):
    """What begins like no format that we know is no image, however short it came."""
    assert refusal(body, content_length=9999) == "not_image"


@given(cut=st.integers(min_value=8, max_value=len(PNG) - 1))
def test_an_image_without_its_end_is_refused_as_truncated(cut):
    """The image itself tells that it is cut off, where the origin told no length."""
    assert refusal(PNG[:cut]) == "truncated"


def test_an_image_shorter_than_announced_is_refused_as_truncated():
    """What came may look whole, but the origin meant to send more."""
    assert refusal(PNG, content_length=len(PNG) + 1) == "truncated"


@given(body=st.binary(), content_length=st.none() | st.integers(min_value=0))
def test_every_refusal_has_a_message(body, content_length):
    """Whatever arrives, the answer is None or a reason that can be told."""
    assert refusal(body, content_length=content_length) in {None, *MESSAGES}


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
