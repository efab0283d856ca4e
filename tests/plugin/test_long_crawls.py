"""The memory of a long crawl: it must not grow with the number of images."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import linear_regression

import pytest

SUPPORT = Path(__file__).parents[1] / "support"
PLAIN = "imgcache_scrapy.ImgCachePipeline"
DROP_IN = "imgcache_scrapy.ImgCacheImagesPipeline"


@pytest.fixture
def many_images_origin() -> Iterator[str]:
    """Serve tiny pictures from a separate process; half of them are missing."""
    with subprocess.Popen(
        [sys.executable, SUPPORT / "many_images_origin.py"], stdout=subprocess.PIPE, text=True
    ) as origin:
        assert origin.stdout is not None
        yield f"http://127.0.0.1:{origin.stdout.readline().strip()}"
        origin.kill()


@pytest.mark.parametrize(
    ("pipeline", "count", "allowed"),
    [
        # A crawl of this size is still warming up, so more growth is allowed.
        (PLAIN, 2_000, 90e6),
        pytest.param(PLAIN, 4_000, 60e6, marks=pytest.mark.endurance),
        pytest.param(PLAIN, 6_000, 30e6, marks=pytest.mark.endurance),
        pytest.param(PLAIN, 200_000, 1e6, marks=pytest.mark.endurance),
        pytest.param(DROP_IN, 200_000, 1e6, marks=pytest.mark.endurance),
    ],
)
def test_memory_does_not_grow_with_the_images(
    many_images_origin: str, tmp_path: Path, pipeline: str, count: int, allowed: float
) -> None:
    """After the warm-up, 10,000 more images use at most the allowed bytes more."""
    settings = {
        "IMGCACHE_URL": str(tmp_path / "cache"),
        "IMAGES_STORE": str(tmp_path / "images"),
        "ITEM_PIPELINES": {pipeline: 1},
    }
    done = subprocess.run(
        [sys.executable, SUPPORT / "many_images.py"],
        input=json.dumps({"settings": settings, "origin": many_images_origin, "many": count}),
        capture_output=True,
        text=True,
        check=True,
        timeout=1_800,
        cwd=tmp_path,
        # Without this, glibc keeps the peak memory of each of about 20 threads for that thread, and
        # only after hundreds of thousands of images every thread has reached its peak.
        env=os.environ | {"MALLOC_ARENA_MAX": "1"},
    )
    result = json.loads(done.stdout)
    assert result["stats"]["imgcache/stored"] == result["stats"]["imgcache/failed"] == count // 2
    warm = [(images, memory) for images, memory in result["samples"] if images > count // 4]
    slope = linear_regression(*zip(*warm, strict=True)).slope
    assert slope * 10_000 < allowed
