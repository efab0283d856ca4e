"""Measure cache keys: `python tests/benchmarks/keys.py`.

Each kind of URL is measured with all presets on, for URLs that were never seen before. The figures
are medians of the rounds, in microseconds of processor time for one URL.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[2]))

from imgcache_scrapy.core import ALL_PRESETS, KeyRules, cache_key
from tests.support.key_shapes import PROVIDERS, filled

# In microseconds.
LIMITS = {"plain": 15, "signed": 60}
RULES = KeyRules(ALL_PRESETS, {"*": ["sid"], "shop.example": ["ref"]})
PLAIN = {
    "plain": "https://cdn.shop.example/images/<num>/photo-large.jpg",
    "plain, parameters": "https://cdn.shop.example/images/<num>.jpg?width=640&height=480&q=80",
    "plain, folder": "https://images.example/a/b/c/d/<word32>/1/2/3/<num>-<num>.jpeg?v=<num>",
}


def kinds() -> dict[str, str]:
    """Return a template for each kind of URL: three plain ones, and one for each preset."""
    signed = {name: provider.groups[0][1] for name, provider in PROVIDERS.items()}
    return PLAIN | {
        name: template if "<" in template else f"{template}<num>"
        for name, template in signed.items()
    }


def measure(rounds: int, urls: int) -> dict[str, float]:
    """Measure every kind of URL, interleaved.

    Args:
        rounds: number of rounds.
        urls: number of URLs of each kind in a round.

    Returns:
        Microseconds for one URL of each kind.
    """
    found: dict[str, list[float]] = {kind: [] for kind in kinds()}
    for number in range(rounds + 1):
        for kind, template in kinds().items():
            batch = [filled(template, f"{number} {each}") for each in range(urls)]
            start = time.process_time()
            for url in batch:
                cache_key(url, RULES)
            if number:  # the first round warms up
                found[kind].append(1e6 * (time.process_time() - start) / urls)
    return {kind: median(values) for kind, values in found.items()}


def table(found: dict[str, float]) -> str:
    """Return the medians as text, the slowest of each sort with its limit at the end."""
    lines = [f"{kind:20}{value:8.1f} µs" for kind, value in found.items()]
    for sort, limit in LIMITS.items():
        slowest = max(
            value for kind, value in found.items() if (kind in PLAIN) is (sort == "plain")
        )
        lines.append(f"{sort}, slowest".ljust(20) + f"{slowest:8.1f} µs of {limit}")
    return "\n".join(lines)


def main() -> None:
    """Measure the keys and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--urls", type=int, default=500)
    options = parser.parse_args()
    sys.stdout.write(table(measure(options.rounds, options.urls)) + "\n")


if __name__ == "__main__":
    main()
