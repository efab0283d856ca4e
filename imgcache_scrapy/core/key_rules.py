"""Key rules: which presets are on, and which parameters are ignored on which hosts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.escapes import with_short_escapes
from imgcache_scrapy.core.hosts import checked_host, hosts_with_rules
from imgcache_scrapy.core.key_presets import ALL_PRESETS, DEFAULT_PRESETS
from imgcache_scrapy.core.text import quoted


@dataclass(frozen=True)
class KeyRules:
    """What cache keys leave out.

    Attributes:
        presets: the names of the presets that are on, each one of `ALL_PRESETS`.
        ignore_params: the names of parameters to ignore, for each host and its subdomains; the
            host `*` is every host.

    Raises:
        ConfigurationError: there is no such preset, or a host or a name is not one.
    """

    presets: tuple[str, ...] = DEFAULT_PRESETS
    ignore_params: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    _names_by_host: Mapping[str, frozenset[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "presets", _checked_presets(self.presets))
        params = _checked_params(self.ignore_params)
        object.__setattr__(self, "ignore_params", params)
        names = {checked_host(host): _spellings(names) for host, names in params.items()}
        object.__setattr__(self, "_names_by_host", names)

    def ignored_names(self, host: str) -> frozenset[str]:
        """Return the parameters to ignore on a host, in each way in which a key may write them."""
        if not self._names_by_host:
            return frozenset()
        names = (self._names_by_host.get(each, ()) for each in hosts_with_rules(host))
        return frozenset().union(*names)


def _checked_presets(presets: Any) -> tuple[str, ...]:
    names = _checked_names("presets", presets)
    for name in names:
        if name not in ALL_PRESETS:
            known = ", ".join(ALL_PRESETS)
            raise ConfigurationError(f"there is no preset {quoted(name)}: the presets are {known}")
    return names


def _checked_params(params: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(params, Mapping):
        raise ConfigurationError(
            "ignored parameters are a dict of hosts, each with a list of names, not"
            f" {quoted(params)}"
        )
    return {
        host: _checked_names(f"the parameters of {quoted(host)}", names)
        for host, names in params.items()
    }


def _checked_names(what: str, names: Any) -> tuple[str, ...]:
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise ConfigurationError(f"{what} are a list of names, not {quoted(names)}")
    checked = tuple(names)
    for name in checked:
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"{what} are a list of names, and {name!r:.80} is not one")
    return checked


def _spellings(names: Iterable[str]) -> frozenset[str]:
    """Return each way in which a key may write the names of these parameters."""
    return frozenset(
        with_short_escapes(spelling)
        for name in names
        for spelling in (
            name,
            quote(name, safe="", errors="replace"),
            quote_plus(name, errors="replace"),
        )
    )


DEFAULT_RULES = KeyRules()
"""The presets that are on by default, and no ignored parameters."""
