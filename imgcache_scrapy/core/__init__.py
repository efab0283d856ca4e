"""The base that every other part uses: entries, errors, limits, URLs, cache keys, image formats.

Core imports no other part, and beyond the standard library only w3lib, and itsdangerous in
`signing.py`, so importing it is cheap. Its functions are pure, except the file helpers in
`files.py`, the asyncio tools in `concurrency.py`, what `forks.py` does at a fork, and `wal.py`,
which changes a database. Each rule is defined here once and every part uses that definition: the
limits of a request, the code and HTTP status of an error, what counts as a whole image, the key of
a URL. Two URLs share a key only if nothing differs that could select another picture; the URL that
is fetched is never changed.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgcache_scrapy.core.key_presets import ALL_PRESETS, DEFAULT_PRESETS
    from imgcache_scrapy.core.key_rules import DEFAULT_RULES, KeyRules
    from imgcache_scrapy.core.keys import KeyedUrl, cache_key, explain_key

__all__ = [
    "ALL_PRESETS",
    "DEFAULT_PRESETS",
    "DEFAULT_RULES",
    "KeyRules",
    "KeyedUrl",
    "cache_key",
    "explain_key",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that importing the others is cheap."""
    if name in __all__:
        from imgcache_scrapy.core import key_presets, key_rules, keys  # noqa: PLC0415

        for home in (keys, key_rules, key_presets):
            if hasattr(home, name):
                return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
