"""The memory of a long crawl, which has to stay as it is however many images come."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import linear_regression

import pytest

SUPPORT = Path(__file__).parents[1] / "support"
PLAIN = "imgcache_scrapy.plugin.pipeline.ImgCachePipeline"
DROP_IN = "imgcache_scrapy.plugin.pipeline.ImgCacheImagesPipeline"


@pytest.fixture
def many_images_origin() -> Iterator[str]:
    """Serve tiny pictures in a process of its own, every other one missing."""
    with subprocess.Popen(
        [sys.executable, SUPPORT / "many_images_origin.py"], stdout=subprocess.PIPE, text=True
    ) as origin:
        assert origin.stdout is not None
        yield f"http://127.0.0.1:{origin.stdout.readline().strip()}"
        origin.kill()


@pytest.mark.parametrize(
    ("pipeline", "many", "allowed"),
    [
        # So few only warm a crawl up.
        (PLAIN, 8_000, 20e6),
        pytest.param(PLAIN, 200_000, 1e6, marks=pytest.mark.endurance),
        pytest.param(DROP_IN, 200_000, 1e6, marks=pytest.mark.endurance),
    ],
)
def test_memory_does_not_grow_with_the_images(
    many_images_origin: str, tmp_path: Path, pipeline: str, many: int, allowed: float
) -> None:
    """Once a crawl has warmed up, 10,000 images more cost no megabyte more."""
    settings = {
        "IMGCACHE_URL": str(tmp_path / "cache"),
        "IMAGES_STORE": str(tmp_path / "images"),
        "ITEM_PIPELINES": {pipeline: 1},
    }
    done = subprocess.run(
        [sys.executable, SUPPORT / "many_images.py"],
        input=json.dumps({"settings": settings, "origin": many_images_origin, "many": many}),
        capture_output=True,
        text=True,
        check=True,
        timeout=1_800,
        cwd=tmp_path,
        # Otherwise glibc keeps what each of some 20 threads has needed at its most for that thread
        # alone, and it takes hundreds of thousands of images until all of them have.
        env=os.environ | {"MALLOC_ARENA_MAX": "1"},
    )
    told = json.loads(done.stdout)
    assert told["stats"]["imgcache/stored"] == told["stats"]["imgcache/failed"] == many // 2
    warm = [(images, memory) for images, memory in told["samples"] if images > many // 4]
    slope = linear_regression(*zip(*warm, strict=True)).slope
    assert slope * 10_000 < allowed
