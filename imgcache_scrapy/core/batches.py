"""Cut long sequences into batches."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batches(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the values in lists of at most `size` values, as `itertools.batched` of Python 3.12."""
    left = iter(values)
    while batch := list(islice(left, size)):
        yield batch


def batches_by_size(
    values: Iterable[T], size_of: Callable[[T], int], max_size: int, max_values: int
) -> Iterator[list[T]]:
    """Yield the values in lists of a bounded size.

    Args:
        values: the values.
        size_of: returns the size of a value.
        max_size: maximum size of a list; a list of one value may have more.
        max_values: maximum number of values of a list.
    """
    batch: list[T] = []
    size = 0
    for value in values:
        its_size = size_of(value)
        if batch and (len(batch) == max_values or size + its_size > max_size):
            yield batch
            batch, size = [], 0
        batch.append(value)
        size += its_size
    if batch:
        yield batch
