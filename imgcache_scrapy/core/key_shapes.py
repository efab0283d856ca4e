"""Shapes: how a provider signs its URLs, and which parts of them a cache key leaves out."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from typing import NamedTuple

Values = Mapping[str, str]
"""The parameters of a URL by name; the value is empty if the name occurs more than once."""
Pattern = re.Pattern[str]
IGNORED = "ignored parameters"
"""The reason for a parameter that the user's settings ignore."""


class Parts(NamedTuple):
    """What a preset may change in a URL.

    Attributes:
        path: the path, with its first slash.
        parameters: the name of each parameter, and the parameter as it is written.
    """

    path: str
    parameters: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Shape:
    """One form of the URLs of a provider; all its conditions must hold.

    Attributes:
        hosts: patterns of the hosts, such as `*.fbcdn.net`; none for any host.
        marks: the parameters that must be there, each once, and what their values must match.
        one_of: parameters of which at least one must be there; none for no such condition.
        path: what the path must start with.
        marker: what the path must contain, so that others need no search.
        names: parameters to leave out.
        prefixes: starts of the names of further parameters to leave out.
        parameters: further parameters to leave out if they are written exactly so.
        segment: a part of the path of which only group 1 stays; None for no such part.
        mirrors: a pattern of hosts that all have the same files, and the one that stands for
            them; None if there are none.
    """

    hosts: tuple[str, ...] = ()
    marks: Mapping[str, Pattern] = field(default_factory=dict)
    one_of: tuple[str, ...] = ()
    path: str = ""
    marker: str = ""
    names: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    parameters: frozenset[str] = frozenset()
    segment: Pattern | None = None
    mirrors: tuple[Pattern, str] | None = None

    def applies(self, path: str, values: Values) -> bool:
        """Return whether a URL, whose host fits, has all marks and something to leave out."""
        if self.segment is None and not self._finds_names(values):
            return False
        for name, pattern in self.marks.items():
            if not pattern.fullmatch(values.get(name, "")):
                return False
        if self.one_of and not any(name in values for name in self.one_of):
            return False
        return self.marker in path and path.startswith(self.path)

    def reduce(self, parts: Parts) -> Parts:
        """Leave out what signs, expires or routes."""
        path, parameters = parts
        if self.segment is not None:
            path = self.segment.sub(r"\1", path, count=1)
        if self.names or self.prefixes:
            parameters = tuple(each for each in parameters if not self._leaves_out(*each))
        return Parts(path, parameters)

    def fold(self, host: str) -> str:
        """Return the host that stands for a mirror."""
        if self.mirrors is None:
            return host
        pattern, representative = self.mirrors
        match = pattern.fullmatch(host)
        return host if match is None else match.expand(representative)

    def _finds_names(self, values: Values) -> bool:
        if not self.names.isdisjoint(values):
            return True
        return bool(self.prefixes) and any(name.startswith(self.prefixes) for name in values)

    def _leaves_out(self, name: str, written: str) -> bool:
        return (
            name in self.names
            or written in self.parameters
            or (bool(self.prefixes) and name.startswith(self.prefixes))
        )


class HostRules(NamedTuple):
    """What holds for the URLs of one host.

    Attributes:
        host: the host in the key: the one that stands for its mirrors.
        folded_by: the preset that replaced a mirror; None if the host is the same.
        shapes: the shapes of this host, each with the name of its preset.
        ignored: the parameters that the user's settings ignore.
    """

    host: str
    folded_by: str | None = None
    shapes: tuple[tuple[str, Shape], ...] = ()
    ignored: frozenset[str] = frozenset()


class ShapeIndex:
    """Finds the shapes that a URL may have, without a look at the others.

    Args:
        presets: the shapes of each preset.
        ignored_names: returns the parameters to ignore on a host.
    """

    def __init__(
        self,
        presets: Mapping[str, Iterable[Shape]],
        ignored_names: Callable[[str], frozenset[str]],
    ) -> None:
        self._presets = tuple(presets)
        self._ignored_names = ignored_names
        self._by_domain: dict[str, list[tuple[str, Pattern, Shape]]] = {}
        self._by_mark: dict[str, list[tuple[str, Shape]]] = {}
        self._of_paths: list[tuple[str, Shape]] = []
        self._of_names: list[tuple[str, Shape]] = []
        for preset, shapes in presets.items():
            for shape in shapes:
                self._add(preset, shape)

    def _add(self, preset: str, shape: Shape) -> None:
        for pattern in shape.hosts:
            entry = (preset, re.compile(translate(pattern)), shape)
            self._by_domain.setdefault(domain_of(pattern), []).append(entry)
        if shape.hosts:
            return
        if shape.marks:
            self._by_mark.setdefault(next(iter(shape.marks)), []).append((preset, shape))
        elif shape.segment is not None:
            self._of_paths.append((preset, shape))
        else:
            self._of_names.append((preset, shape))

    def rules_of(self, host: str) -> HostRules:
        """Return what holds for a host."""
        known = self._by_domain.get(domain_of(host), ())
        shapes = tuple((preset, shape) for preset, hosts, shape in known if hosts.match(host))
        ignored = self._ignored_names(host)
        for preset, shape in shapes:
            folded = shape.fold(host)
            if folded != host:
                return HostRules(folded, preset, shapes, ignored | self._ignored_names(folded))
        return HostRules(host, None, shapes, ignored)

    def reduce(self, rules: HostRules, parts: Parts) -> tuple[Parts, tuple[str, ...]]:
        """Leave out of a URL what its shapes and the user's settings leave out.

        Returns:
            What is left, and why: the presets that left something out, then `IGNORED`.
        """
        path, parameters = parts
        values = _values_of(parameters) if parameters else {}
        changed_by, left = {rules.folded_by}, parts
        for preset, shape in self._candidates(rules, values):
            if shape.applies(path, values):
                before, left = left, shape.reduce(left)
                if left != before:
                    changed_by.add(preset)
        reasons = self._in_order(changed_by)
        if not rules.ignored.isdisjoint(values):
            kept = tuple(each for each in left.parameters if each[0] not in rules.ignored)
            return Parts(left.path, kept), (*reasons, IGNORED)
        return left, reasons

    def _candidates(self, rules: HostRules, values: Values) -> list[tuple[str, Shape]]:
        found = [*rules.shapes, *self._of_paths]
        if values:
            found += self._of_names
            if not self._by_mark.keys().isdisjoint(values):
                for mark in self._by_mark.keys() & values.keys():
                    found += self._by_mark[mark]
        return found

    def _in_order(self, presets: set[str | None]) -> tuple[str, ...]:
        if presets == {None}:
            return ()
        return tuple(preset for preset in self._presets if preset in presets)


def domain_of(host: str) -> str:
    """Return the last two labels of a host or of a pattern of hosts."""
    return ".".join(host.rsplit(".", 2)[-2:])


def _values_of(parameters: Iterable[tuple[str, str]]) -> Values:
    values: dict[str, str] = {}
    for name, written in parameters:
        values[name] = "" if name in values else written[len(name) + 1 :]
    return values
