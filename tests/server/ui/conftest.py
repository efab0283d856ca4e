"""Fixtures of the page's tests: a browser, and a service with some pictures."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.browser import SCRIPT_AND_PLAIN, open_browser, open_page
from tests.support.service import Service


@pytest.fixture(scope="module")
def page_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serve a cache for the tests of a module."""
    service = Service(tmp_path_factory.mktemp("page") / "service")
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Open a browser for the tests of a module, of which none is a coroutine."""
    with open_browser() as browser:
        yield browser


@pytest.fixture(params=SCRIPT_AND_PLAIN)
def how(request: pytest.FixtureRequest) -> str:
    """Return whether the browser runs scripts."""
    return str(request.param)


@pytest.fixture
def page(browser: Any, page_service: Service, how: str) -> Iterator[Any]:
    """Open a page, once with scripts and once without."""
    with open_page(browser, page_service.url, how) as page:
        yield page


@pytest.fixture
def scripted_page(browser: Any, page_service: Service) -> Iterator[Any]:
    """Open a page that runs scripts."""
    with open_page(browser, page_service.url, "script") as page:
        yield page
