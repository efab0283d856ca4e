"""The bands of a perceptual hash: an index over the bands misses no similar image."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcache_scrapy.engine.catalog.similarity import BAND_COUNT, band_candidates, bands

HASH_BITS = 64

WIDTHS = (13, 13, 13, 13, 12)

hashes = st.integers(0, (1 << HASH_BITS) - 1)
narrow_distances = st.integers(0, 14)


def masks(*, at_most):
    """Generate masks of masks bits; the bands are made for masks with few bits."""
    return st.sets(st.integers(0, HASH_BITS - 1), max_size=at_most).map(
        lambda places: sum(1 << place for place in places)
    )


def shares_a_band(candidates, perceptual_hash):
    found = zip(candidates, bands(perceptual_hash), strict=True)
    return any(value in values for values, value in found)


@given(perceptual_hash=hashes)
def test_the_bands_contain_each_bit_once(perceptual_hash):
    """The bands together form the hash: no bit is lost or contained twice."""
    found, at = 0, 0
    for band, width in zip(bands(perceptual_hash), WIDTHS, strict=True):
        assert 0 <= band < 1 << width
        found |= band << at
        at += width
    assert (found, at) == (perceptual_hash, HASH_BITS)


@given(perceptual_hash=hashes, distance=narrow_distances, data=st.data())
def test_every_hash_within_the_distance_is_a_candidate(perceptual_hash, distance, data):
    """If few bits differ, at least one band of the other hash is among the candidates."""
    other = perceptual_hash ^ data.draw(masks(at_most=distance))
    assert shares_a_band(band_candidates(perceptual_hash, distance), other)


@given(perceptual_hash=hashes, distance=narrow_distances, others=st.lists(masks(at_most=20)))
def test_the_band_index_agrees_with_brute_force(perceptual_hash, distance, others):
    """Filtering the candidates by distance finds exactly the hashes within the distance."""
    candidates = band_candidates(perceptual_hash, distance)
    everything = [perceptual_hash ^ mask for mask in others]
    near = [h for h in everything if (h ^ perceptual_hash).bit_count() <= distance]
    found = [
        h
        for h in everything
        if shares_a_band(candidates, h) and (h ^ perceptual_hash).bit_count() <= distance
    ]
    assert found == near


@pytest.mark.parametrize("distance", range(15))
def test_candidates_are_the_values_within_a_fifth_of_the_distance(distance):
    """The candidates of a band are all values within a fifth of the distance, each one once."""
    perceptual_hash = 0x0123456789ABCDEF
    candidates = band_candidates(perceptual_hash, distance)
    assert len(candidates) == BAND_COUNT
    for values, own, width in zip(candidates, bands(perceptual_hash), WIDTHS, strict=True):
        near = [v for v in range(1 << width) if (v ^ own).bit_count() <= distance // BAND_COUNT]
        assert sorted(values) == near


@given(perceptual_hash=hashes, distance=st.integers(15, HASH_BITS))
def test_wide_distances_have_no_candidates(perceptual_hash, distance):
    """Beyond 14 bits a scan of the table is cheaper than lists of candidates."""
    assert band_candidates(perceptual_hash, distance) is None
