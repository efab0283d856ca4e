"""Cut perceptual hashes into bands, so that an index finds all similar hashes."""

from itertools import combinations

BAND_COUNT = 5
_WIDTHS = (13, 13, 13, 13, 12)
_MAX_FLIPS = 2


def bands(perceptual_hash: int) -> list[int]:
    """Cut a hash into its bands.

    Args:
        perceptual_hash: 64 bits.

    Returns:
        Five numbers of 13, 13, 13, 13 and 12 bits, the lowest bits first.
    """
    found = []
    for width in _WIDTHS:
        found.append(perceptual_hash & ((1 << width) - 1))
        perceptual_hash >>= width
    return found


def band_candidates(perceptual_hash: int, max_distance: int) -> list[list[int]] | None:
    """Return candidate values for each band; a similar hash has one of them in at least one band.

    If two hashes differ in d bits, then one of their five bands differs in at most d // 5 bits
    (pigeonhole principle).

    Args:
        perceptual_hash: 64 bits.
        max_distance: 0 to 64 bits.

    Returns:
        Five lists of values; None if there are so many values that a scan is faster.
    """
    flips = max_distance // BAND_COUNT
    if flips > _MAX_FLIPS:
        return None
    return [
        [value ^ mask for mask in _masks(width, flips)]
        for value, width in zip(bands(perceptual_hash), _WIDTHS, strict=True)
    ]


def _masks(width: int, flips: int) -> list[int]:
    return [
        sum(1 << bit for bit in chosen)
        for count in range(flips + 1)
        for chosen in combinations(range(width), count)
    ]
