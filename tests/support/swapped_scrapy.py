"""Runs tests of Scrapy's own suite with our pipelines in place of Scrapy's."""

import asyncio
import inspect
import json
import sys
from pathlib import Path

import pytest


class Swapped:
    """A plugin of pytest: swaps the classes, runs coroutine tests, keeps the outcomes."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}

    def pytest_configure(self, config: pytest.Config) -> None:
        config.addinivalue_line("markers", "asyncio: marks tests that need an event loop")
        # Imported here, because Scrapy's conftest must come first.
        from scrapy.pipelines import files, images, media

        from imgcache_scrapy import ImgCacheFilesPipeline, ImgCacheImagesPipeline
        from imgcache_scrapy.plugin.media import CachedMediaPipeline

        media.MediaPipeline = CachedMediaPipeline
        files.FilesPipeline = ImgCacheFilesPipeline
        images.ImagesPipeline = ImgCacheImagesPipeline

    @pytest.fixture(autouse=True)
    def _new_cache(
        self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("IMGCACHE_URL", str(tmp_path_factory.mktemp("cache") / "cache"))

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        if not inspect.iscoroutinefunction(pyfuncitem.obj):
            return None
        names = inspect.signature(pyfuncitem.obj).parameters
        asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.nodeid] = report.outcome


def run(source: str, outcomes: str, tests: list[str]) -> None:
    """Run tests; `forking.start` can call this function.

    Args:
        source: the folder of Scrapy's sources.
        outcomes: the file for the outcomes.
        tests: the files with the tests.
    """
    # Scrapy's tests are in a package of the same name as ours.
    del sys.modules["tests"]
    sys.path.insert(0, source)
    swapped = Swapped()
    options = ["-q", "--reactor=none", "-p", "no:cacheprovider", "-p", "no:xdist"]
    pytest.main([*options, *tests], plugins=[swapped])
    Path(outcomes).write_text(json.dumps(swapped.outcomes))
