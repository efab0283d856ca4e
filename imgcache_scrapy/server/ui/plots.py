"""Compute the plots of the state page, without any I/O; its template draws them as SVG."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from imgcache_scrapy.core.times import EPOCH
from imgcache_scrapy.server.ui.texts import number, size

WIDTH, HEIGHT = 900, 160
_TOP, _BASE = 20, HEIGHT - 1
_MAX_DAYS = 120
_MAX_ROWS = 12


class Share(NamedTuple):
    """A row of a table with bars.

    Attributes:
        name: what it counts.
        value: the count, for people.
        share: the length of its bar, 0 to 100.
        path: the address that shows what is counted; None for none.
    """

    name: str
    value: str
    share: float
    path: str | None = None


class Bar(NamedTuple):
    """A day in the plot of the growth, in the units of the plot."""

    x: float
    y: float
    width: float
    height: float
    label: str


class Growth(NamedTuple):
    """The plot of the growth.

    Attributes:
        bars: the days that have new images.
        label: the plot in a sentence.
        first: the first day.
        last: the last day.
        top: what the highest bar stands for.
        width: of the plot.
        height: of the plot.
        base: where the bars stand.
    """

    bars: list[Bar]
    label: str = ""
    first: str = ""
    last: str = ""
    top: str = ""
    width: int = WIDTH
    height: int = HEIGHT
    base: int = _BASE


def byte_shares(groups: Mapping[str, Mapping[str, int]], paths: Mapping[str, str]) -> list[Share]:
    """Return the groups with the most bytes, and the others together.

    Args:
        groups: the numbers of each group, the one with the most bytes first.
        paths: the address that shows a group, by its name.
    """
    sizes = {name: numbers["bytes"] for name, numbers in groups.items()}
    return [
        Share(name or "(none)", size(value), share, paths.get(name))
        for name, value, share in _shares(sizes)
    ]


def count_shares(counts: Mapping[str, int]) -> list[Share]:
    """Return the groups with the largest counts, and the others together."""
    return [Share(name, number(value), share) for name, value, share in _shares(counts)]


def growth(days: Sequence[tuple[int, int, int]]) -> Growth:
    """Return the plot of the bytes that were new on each day.

    Args:
        days: the day since 1970, the number of new images and their bytes, the oldest first.
    """
    if not days:
        return Growth([])
    last = days[-1][0]
    shown = [each for each in days if each[0] > last - _MAX_DAYS]
    first = min(shown[0][0], last - 13)
    step = WIDTH / (last - first + 1)
    most = max(each[2] for each in shown) or 1
    bars = []
    for day, images, new_bytes in shown:
        height = max(1.0, (_BASE - _TOP) * new_bytes / most)
        label = f"{_date(day)}: {number(images)} new, {size(new_bytes)}"
        x = (day - first) * step
        bars.append(
            Bar(round(x, 2), round(_BASE - height, 2), round(step * 0.86, 2), height, label)
        )
    images, new_bytes = sum(each[1] for each in shown), sum(each[2] for each in shown)
    return Growth(
        bars,
        f"From {_date(first)} to {_date(last)}: {number(images)} new pictures, {size(new_bytes)}",
        _date(first),
        _date(last),
        f"{size(most)} a day",
    )


def _shares(values: Mapping[str, int]) -> list[tuple[str, int, float]]:
    most = max(values.values(), default=0) or 1
    rows = list(values.items())[:_MAX_ROWS]
    others = sum(list(values.values())[_MAX_ROWS:])
    found = [(name, value, round(100 * value / most, 2)) for name, value in rows]
    if others:
        found.append(("all others", others, min(100.0, round(100 * others / most, 2))))
    return found


def _date(day: int) -> str:
    return (EPOCH + timedelta(days=day)).date().isoformat()
