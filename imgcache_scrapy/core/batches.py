"""Cut long sequences into batches."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batches(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the values in lists of at most `size` values, as `itertools.batched` of Python 3.12."""
    left = iter(values)
    while batch := list(islice(left, size)):
        yield batch
