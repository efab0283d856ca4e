"""Combinations of the parameters of a test: a few by default, all with -m endurance."""

from collections.abc import Iterable
from itertools import product
from typing import Any

import pytest


def combined(*axes: Iterable[Any]) -> list[Any]:
    """Combine the values of some parameters, for `parametrize`.

    Returns:
        All combinations. By default so few run that each value is in one of them.
    """
    values = [list(axis) for axis in axes]
    longest = max(map(len, values))
    few = {tuple(each[n % len(each)] for each in values) for n in range(longest)}
    marks = [pytest.mark.endurance]
    return [pytest.param(*row, marks=marks * (row not in few)) for row in product(*values)]
