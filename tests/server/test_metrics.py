"""Metrics for Prometheus: names, labels, and exact counts."""

import random
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.service import Service, http_client

UNKNOWN_HASH = "0" * 64


one_and_two_processes = {"params": ["1", "2"], "ids": ["one process", "two processes"]}


@pytest.fixture(**one_and_two_processes)
def new_http(stopped_service, request):
    """Open several connections to a new service, so that each worker process gets requests."""
    stopped_service.options = ("--workers", request.param)
    stopped_service.start()
    with Clients(stopped_service.url) as clients:
        yield clients


@pytest.fixture(scope="module", **one_and_two_processes)
def http(tmp_path_factory, request):
    """Open several connections to a service for all tests of this module."""
    folder = tmp_path_factory.mktemp("metrics") / "service"
    service = Service(folder, "--workers", request.param)
    service.start()
    with Clients(service.url) as clients:
        yield clients
    service.stop()


class Clients:
    """A client that sends each request on the next of eight connections."""

    def __init__(self, url):
        self._clients = [http_client(url) for _ in range(8)]
        self._turn = 0

    def request(self, method, path, **options):
        self._turn += 1
        return self._clients[self._turn % 8].request(method, path, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self._clients:
            client.close()


def samples(http):
    """Return the value of every sample, by name and labels."""
    answer = http.request("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def store(http, url, data):
    form = {"url": url, "client_name": "me"}
    return http.request("POST", "/images", data=form, files={"file": ("f", data)})


def test_every_counter_starts_at_zero(new_http):
    """The reference's names and labels exist from the start, so that rates can be computed."""
    found = samples(new_http)
    for name in (
        ("imgcache_store_total", ("result", "created")),
        ("imgcache_store_total", ("result", "duplicate")),
        ("imgcache_lookup_total", ("result", "hit")),
        ("imgcache_lookup_total", ("result", "miss")),
        ("imgcache_perceptual_hash_computed_total", ("result", "ok")),
        ("imgcache_perceptual_hash_computed_total", ("result", "failed")),
        ("imgcache_similar_search_total",),
        ("imgcache_image_bytes_count",),
        ("imgcache_image_bytes_sum",),
        ("imgcache_image_bytes_bucket", ("le", "+Inf")),
    ):
        assert found[name] == 0, name


def test_answered_requests_are_counted(http, photos):
    """The counts are exact right after the calls, for one and for two processes."""
    photo, before = photos["cat.png"], samples(http)
    for _ in range(3):
        assert store(http, "http://h.example/a", photo).is_success
    for number in range(4):
        assert store(http, "http://h.example/b", b"no picture %d" % number).status_code == 201
    for url, times in (("http://h.example/a", 5), ("http://h.example/none", 6)):
        for _ in range(times):
            http.request("GET", "/images/lookup", params={"url": url})
    urls = ["http://h.example/a", "http://h.example/b", "http://h.example/none"]
    http.request("POST", "/images/lookup", json={"urls": urls})
    for _ in range(7):
        http.request("GET", "/images/similar", params={"perceptual_hash": "0" * 16})
    for _ in range(8):
        http.request("GET", f"/images/{UNKNOWN_HASH}")
    found = samples(http)
    sizes = [len(photo)] + 4 * [len(b"no picture 0")]
    expected = {
        ("imgcache_store_total", ("result", "created")): 5,
        ("imgcache_store_total", ("result", "duplicate")): 2,
        ("imgcache_lookup_total", ("result", "hit")): 5 + 2,
        ("imgcache_lookup_total", ("result", "miss")): 6 + 1,
        ("imgcache_perceptual_hash_computed_total", ("result", "ok")): 1,
        ("imgcache_perceptual_hash_computed_total", ("result", "failed")): 4,
        ("imgcache_similar_search_total",): 7,
        ("imgcache_image_bytes_count",): 5,
        ("imgcache_image_bytes_sum",): sum(sizes),
        ("imgcache_image_bytes_bucket", ("le", "1024.0")): 4,
        (
            "imgcache_request_seconds_count",
            ("method", "GET"),
            ("route", "/images/{content_hash}"),
            ("status", "404"),
        ): 8,
    }
    counted = {name: found[name] - before.get(name, 0) for name in expected}
    assert counted == expected


def test_a_refused_store_is_not_counted(http):
    """A store that is refused does not change the counts."""
    before = samples(http)
    assert store(http, "http://h.example/a", b"").status_code == 422
    found = samples(http)
    for name in (("imgcache_store_total", ("result", "created")), ("imgcache_image_bytes_count",)):
        assert found[name] == before[name], name


METHODS = ["PUT", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "MKCOL", "LOCK", "PURGE", "REPORT"]


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.endurance)])
def test_unknown_paths_add_no_series(http, count):
    """Unknown paths, hashes, URLs and methods do not add series."""
    rng = random.Random(1)

    def ask(number):
        word = f"{rng.getrandbits(256):064x}"
        for method, path in (
            ("GET", f"/{word}"),
            ("GET", f"/images/{word}"),
            (METHODS[number % len(METHODS)], f"/images/{word}"),
            (METHODS[number % len(METHODS)], "/images/lookup"),
            ("GET", f"/images/lookup?url=http://{word}.example&bucket={word}"),
        ):
            assert http.request(method, path).status_code in {404, 405}

    ask(0)
    samples(http)
    before = samples(http).keys()
    for number in range(1, count):
        ask(number)
    assert samples(http).keys() == before


def test_metrics_contain_no_urls_and_buckets(http):
    """Neither URLs nor buckets nor paths appear in the metrics."""
    word = uuid4().hex
    store(http, f"http://{word}.example/{word}?{word}", word.encode())
    http.request("GET", f"/images/lookup?url=http://{word}.example&bucket={word}")
    http.request("GET", f"/{word}")
    assert word not in http.request("GET", "/metrics").text
