"""Fixtures of the service's tests."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.service import Service, http_client


@pytest.fixture(scope="session")
def http(shared_service: Service) -> Iterator[httpx.Client]:
    """Open a plain HTTP client of the shared service."""
    with http_client(shared_service.url) as client:
        yield client
