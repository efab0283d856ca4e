"""The size of a picture from its header: what Pillow says, without decoding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgcache_scrapy.core.header_size import header_size
from tests.support.pictures import encoded, jpeg

SIZES = [(1, 1), (300, 7), (7, 300), (1000, 1001)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0"}),
    ],
)
def test_the_header_names_the_size(kind, options, size):
    """Of every format that the web has, in its kinds."""
    data = encoded(Image.new("RGB", size, (9, 99, 199)), kind, **options)
    assert header_size(data) == size
    assert header_size(data[:64]) in {size, None}


def test_metadata_before_the_size_are_passed_over():
    """A large profile in a JPEG."""
    data = jpeg(1, size=(123, 45), icc_profile=bytes(200_000))
    assert header_size(data) == (123, 45)


@given(st.one_of(st.binary(), st.binary().map(b"\xff\xd8\xff".__add__)))
def test_other_bytes_have_no_size(data):
    """Or one that somebody put there; no error is raised."""
    size = header_size(data)
    assert size is None or min(size) > 0
