"""The page that shows the state of the cache."""

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Response

from imgcache_scrapy.engine.async_gallery import CacheState
from imgcache_scrapy.server.metrics import Metrics
from imgcache_scrapy.server.ui import plots
from imgcache_scrapy.server.ui.access import SignedIn
from imgcache_scrapy.server.ui.grid_query import NO_BUCKET
from imgcache_scrapy.server.ui.pages import Pages
from imgcache_scrapy.server.ui.spool import Waiting, waiting
from imgcache_scrapy.server.ui.state_keeper import StateKeeper
from imgcache_scrapy.server.ui.texts import address, number, size


def add_state(router: APIRouter, pages: Pages, keeper: StateKeeper, metrics: Metrics) -> None:
    """Add the route of the page."""

    @router.get("/ui/state")
    async def state(visitor: SignedIn) -> Response:
        found = await keeper.state()
        counted_at = None if keeper.counted_at is None else f"{keeper.counted_at:%H:%M:%S}"
        return await pages.answer(
            "state",
            visitor,
            state=found,
            counted_at=counted_at,
            since_start=_since_start(metrics.totals()),
            trouble=[] if found is None else _trouble(found),
            spool=_spool_rows(await asyncio.to_thread(waiting)),
            **({} if found is None else _shown(found)),
        )


def _shown(state: CacheState) -> dict[str, Any]:
    totals = state.totals
    return {
        "totals": [
            ("pictures", number(totals["images"])),
            ("captures", number(totals["captures"])),
            ("bytes", size(totals["bytes"])),
            ("hosts", number(len(state.hosts))),
        ],
        "hosts": plots.byte_shares(state.hosts, _paths("host", state.hosts)),
        "types": plots.byte_shares(state.types, _paths("content_type", state.types)),
        "clients": plots.byte_shares(state.clients, _paths("client_name", state.clients)),
        "buckets": plots.byte_shares(state.buckets, _paths("bucket", state.buckets)),
        "growth": plots.growth(state.growth),
        "reasons": plots.count_shares(state.failures_by_reason),
        "failing": plots.count_shares(state.failures_by_host),
    }


def _paths(parameter: str, groups: Mapping[str, object]) -> dict[str, str]:
    empty = NO_BUCKET if parameter == "bucket" else None
    return {name: address("/", {parameter: name or empty}) for name in groups if name or empty}


def _trouble(state: CacheState) -> list[tuple[str, str]]:
    named = {"blocked": "Blocked", "waiting": "Wait for their decoding"}
    counts = [("Damaged", number(state.totals["damaged"]))]
    for name, count in state.trouble.items():
        label = named.get(name, f"Not decoded: {name.replace('_', ' ')}")
        counts.append((label, number(count)))
    return counts


def _spool_rows(found: Waiting | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    return [
        ("Wait in the spool", f"{number(found.records)} ({size(found.size)})"),
        ("Refused, in the spool", number(found.refused)),
    ]


def _since_start(totals: Mapping[str, float]) -> list[tuple[str, str]]:
    hits, lookups = totals["hits"], totals["hits"] + totals["misses"]
    rate = f"{100 * hits / lookups:.1f} %" if lookups else "no lookup yet"
    return [
        ("Hit rate", rate),
        ("Hits", f"{number(int(hits))} of {number(int(lookups))} lookups"),
        ("Bytes saved", size(totals["saved_bytes"])),
        ("New pictures", number(int(totals["created"]))),
        ("Known pictures", number(int(totals["duplicates"]))),
    ]
