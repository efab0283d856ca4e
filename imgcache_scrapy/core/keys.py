"""Keys: compute the cache key of a URL, which leaves out what only signs, expires or routes it."""

import re
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from imgcache_scrapy.core.escapes import with_short_escapes
from imgcache_scrapy.core.key_presets import ALL_PRESETS, PRESETS
from imgcache_scrapy.core.key_rules import DEFAULT_RULES, KeyRules
from imgcache_scrapy.core.key_shapes import HostRules, Parts, ShapeIndex
from imgcache_scrapy.core.urls import DEFAULT_PORTS, is_data_url, request_url

PLAIN = "plain"
"""The reason of a key that leaves nothing out."""
_DATA = "data"

_MAX_HOST = 253
# Longer URLs are rare, and remembering them would take too much memory.
_MAX_REMEMBERED_URL = 4096

_HTTP = re.compile(r"(https?)://([^/?]*)([^?]*)(?:\?(.*))?", re.DOTALL)
_USER = re.compile(r"^((?:[a-z][a-z0-9+.-]*:)?//)[^/?#]*@")
# On these hosts the parameters are steps, which are done in their order.
_ORDERED_HOST = re.compile(r"i[^.]*\.wp\.com|.+\.files\.wordpress\.com")


class KeyedUrl(NamedTuple):
    """A cache key and how it was found.

    Attributes:
        key: the key.
        reason: `plain`, or what left something out: the names of presets, `ignored parameters`.
    """

    key: str
    reason: str


def cache_key(url: str, rules: KeyRules = DEFAULT_RULES) -> str:
    """Compute the cache key of a URL: what `lookup` compares.

    Two URLs share a key only if nothing differs that could select another picture. The key has no
    fragment, no user and no password; its scheme and host are in lower case, without a default
    port; percent-encoding is in its shortest form; parameters are sorted by their names, where
    their order does not act. The URL that is fetched is never changed.

    Args:
        url: any spelling of the URL.
        rules: what to leave out in addition.

    Returns:
        The key. The key of a key is the key itself.

    Raises:
        InvalidRequestError: the value is not a URL.
    """
    return explain_key(url, rules).key


def explain_key(url: str, rules: KeyRules = DEFAULT_RULES) -> KeyedUrl:
    """Compute the cache key of a URL, and say what it leaves out; see `cache_key`."""
    keys = _keys_of(rules)
    if isinstance(url, str) and len(url) <= _MAX_REMEMBERED_URL:
        return keys.remembered(url)
    return keys.find(url)


class _Keys:
    """Computes keys by some rules.

    Args:
        rules: the rules.
    """

    def __init__(self, rules: KeyRules) -> None:
        presets = {name: PRESETS[name] for name in ALL_PRESETS if name in rules.presets}
        self._index = ShapeIndex(presets, rules.ignored_names)
        self._rules_of = lru_cache(maxsize=512)(self._index.rules_of)
        # A crawl asks for the key of one image several times.
        self.remembered = lru_cache(maxsize=256)(self.find)

    def find(self, url: str) -> KeyedUrl:
        """Compute a key and its reason."""
        base = without_user(request_url(url))
        match = _HTTP.fullmatch(base)
        if match is None:
            return KeyedUrl(base, _DATA if is_data_url(base) else PLAIN)
        scheme, authority, path, query = match.groups()
        host, port = _host_and_port(authority, DEFAULT_PORTS[scheme])
        parts = Parts(with_short_escapes(path), _parameters(query))
        folded, reduced, reasons = self._reduce(host, parts)
        # With its parameters a URL only loses marks. Another path or host may complete a shape
        # again; no provider writes such URLs, and their keys leave nothing out.
        is_moved = (folded, reduced.path) != (host, parts.path)
        if is_moved and self._reduce(folded, reduced) != (folded, reduced, ()):
            folded, reduced, reasons = host, parts, ()
        key = f"{scheme}://{folded}{port}{reduced.path}{_query(folded, reduced.parameters)}"
        return KeyedUrl(key, ", ".join(reasons) or PLAIN)

    def _reduce(self, host: str, parts: Parts) -> tuple[str, Parts, tuple[str, ...]]:
        rules = self._rules_of(host) if len(host) <= _MAX_HOST else HostRules(host)
        return rules.host, *self._index.reduce(rules, parts)


# A process has the rules of few crawls.
_keys_of = lru_cache(maxsize=16)(_Keys)


def has_user(url: str) -> bool:
    """Return whether a URL contains a user or a password."""
    return "@" in url and _USER.match(url) is not None


def without_user(url: str) -> str:
    """Return a URL, as `request_url` gives it, without a user and a password."""
    if "@" not in url:
        return url
    without = _USER.sub(r"\1", url, count=1)
    # Without its user, an odd URL may be written in another way.
    return url if without == url else request_url(without)


def _host_and_port(authority: str, default_port: int) -> tuple[str, str]:
    """Split an authority; the port has its colon, and is empty if it is the default one."""
    end = authority.find("]") + 1 or authority.find(":")
    host, port = (authority, "") if end < 0 else (authority[:end], authority[end:])
    return host, "" if port == f":{default_port}" else port


def _parameters(query: str | None) -> tuple[tuple[str, str], ...]:
    if not query:
        return ()
    written = with_short_escapes(query).split("&")
    return tuple((each.partition("=")[0], each) for each in written)


def _query(host: str, parameters: tuple[tuple[str, str], ...]) -> str:
    if not parameters:
        return ""
    written = [each for _, each in parameters]
    # A parameter without "=" may be a step, too, such as `imageView2/2/w/100`.
    if all("=" in each for each in written) and not _ORDERED_HOST.fullmatch(host):
        written = [each for _, each in sorted(parameters, key=itemgetter(0))]
    query = "&".join(written)
    return f"?{query}" if query else ""


def is_default_key(key: str) -> bool:
    """Return whether a key is the default key of itself, so that a service need not be told it."""
    return cache_key(key) == key
