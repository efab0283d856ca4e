"""The metrics of the service, for Prometheus."""

import os
import time
from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imgcache_scrapy.core.entry import Entry

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable with the folder in which prometheus_client adds up processes."""

_SIZES = [2**power for power in range(10, 28, 2)]
_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]


class Metrics:
    """The metrics of one app; if several processes serve, of all of them together."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        stores = Counter("imgcache_store_total", "Images stored.", ["result"], registry=registry)
        lookups = Counter("imgcache_lookup_total", "URLs looked up.", ["result"], registry=registry)
        self._saved_bytes = Counter(
            "imgcache_saved_bytes_total",
            "Bytes of the images that lookups found.",
            registry=registry,
        )
        self._image_bytes = Histogram(
            "imgcache_image_bytes", "Sizes of new images.", registry=registry, buckets=_SIZES
        )
        hashes = Counter(
            "imgcache_perceptual_hash_computed_total",
            "New images, by whether they could be decoded.",
            ["result"],
            registry=registry,
        )
        self._similar = Counter(
            "imgcache_similar_search_total", "Searches for look-alikes.", registry=registry
        )
        self.requests = Histogram(
            "imgcache_request_seconds",
            "How long requests took.",
            ["method", "route", "status"],
            registry=registry,
            buckets=_SECONDS,
        )
        # Found once, so that they begin with 0, and because finding one takes a few microseconds.
        self._created, self._duplicates = map(stores.labels, ("created", "duplicate"))
        self._hits, self._misses = map(lookups.labels, ("hit", "miss"))
        self._hashed, self._not_hashed = map(hashes.labels, ("ok", "failed"))

    def count_store(self, entry: Entry) -> None:
        """Count an image that was stored."""
        if not entry["created"]:
            self._duplicates.inc()
            return
        self._created.inc()
        self._image_bytes.observe(entry["file_size_bytes"])
        (self._not_hashed if entry["perceptual_hash"] is None else self._hashed).inc()

    def count_lookups(self, found: Collection[Entry], misses: int) -> None:
        """Count URLs that were looked up: those that were found, and the number of the others."""
        self._hits.inc(len(found))
        self._saved_bytes.inc(sum(entry["file_size_bytes"] for entry in found))
        self._misses.inc(misses)

    def count_similar(self) -> None:
        """Count a search for look-alikes."""
        self._similar.inc()

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._all_processes())

    def totals(self) -> dict[str, float]:
        """Return what was counted since the start of the service, of all processes together.

        Returns:
            The `hits` and `misses` of lookups, the `saved_bytes` of the hits, and the stored images
            that were `created` or `duplicates`.
        """
        values: dict[tuple[str, str], float] = {}
        for family in self._all_processes().collect():
            for sample in family.samples:
                values[sample.name, sample.labels.get("result", "")] = sample.value
        return {
            "hits": values.get(("imgcache_lookup_total", "hit"), 0),
            "misses": values.get(("imgcache_lookup_total", "miss"), 0),
            "saved_bytes": values.get(("imgcache_saved_bytes_total", ""), 0),
            "created": values.get(("imgcache_store_total", "created"), 0),
            "duplicates": values.get(("imgcache_store_total", "duplicate"), 0),
        }

    def _all_processes(self) -> CollectorRegistry:
        if SHARED_FOLDER not in os.environ:
            return self._registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return registry


class TimingMiddleware:
    """Measures how long each request takes, by its method, route and status.

    Args:
        app: answers the requests.
        metrics: gets the durations.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._requests = metrics.requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and measure it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status = 500
        start = time.perf_counter()

        async def send_and_keep_status(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            return await self._app(scope, receive, send_and_keep_status)
        finally:
            # Without the path and unknown methods, because each new value would add a time series.
            route = scope.get("route")
            is_known = scope["method"] in getattr(route, "methods", ())
            method = scope["method"] if is_known else "other"
            path = getattr(route, "path", "none")
            self._requests.labels(method, path, status).observe(time.perf_counter() - start)
