"""The worker processes of a service: they end with their parent, and add up their metrics."""

import re
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from imgcache_scrapy.server.metric_files import metrics_folder
from tests.support.commands import MAIN
from tests.support.forking import REAL_CHILDREN
from tests.support.service import http_client
from tests.support.waiting import wait_until

# Smaller than the file of the histograms, larger than the files of an empty catalog.
SMALL_FILES = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, 900_000))\n"


@pytest.fixture
def stopped_service(stopped_service):
    """Return a service whose workers are started as users start them."""
    stopped_service.environment[REAL_CHILDREN] = "1"
    return stopped_service


@pytest.fixture
def service(stopped_service):
    """Serve an empty cache with two workers."""
    stopped_service.options = ("--workers", "2")
    stopped_service.start()
    return stopped_service


def workers_of(service):
    """Return the worker processes of a service."""
    found = []
    for child in psutil.Process(service.process.pid).children():
        with suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def has_ended(process):
    """Return whether a process has ended; nobody may have asked for its exit code yet."""
    with suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def folders(service):
    """Return the folders of metrics in the folder of a service's cache."""
    return list(service.folder.glob("imgcache-metrics-*"))


def look_up(service, count):
    """Look up an unknown URL many times, each time on a new connection."""
    with http_client(service.url, headers={"Connection": "close"}) as http:
        for _ in range(count):
            answer = http.get("/images/lookup", params={"url": "http://h.example/a"})
            assert answer.status_code == 404


def misses(service):
    """Return how many misses the metrics show."""
    with http_client(service.url) as http:
        text = http.get("/metrics").text
    return float(re.search(r'^imgcache_lookup_total\{result="miss"\} (.*)', text, re.MULTILINE)[1])


def test_workers_end_with_their_parent(service):
    """If the parent alone is killed, its workers end; the next service removes its leftovers."""
    workers = workers_of(service)
    assert len(workers) == 2
    (left,) = folders(service)
    service.process.kill()
    service.process.join()
    wait_until(lambda: all(map(has_ended, workers)), 0.1)
    assert folders(service) == [left]
    service.start()
    (folder,) = folders(service)
    assert folder != left
    service.stop()
    assert folders(service) == []


def test_workers_that_are_killed_leave_their_counts(service):
    """The next worker takes over the files of a killed one, so that there are no more files."""
    (folder,) = folders(service)
    look_up(service, 20)
    assert misses(service) == 20
    # Each worker creates its files when it starts, which may be after the first answers.
    wait_until(lambda: len(list(folder.glob("worker-*"))) == 2)
    before = sorted(path.name for path in folder.iterdir())
    for killed in range(1, 3):
        old = {worker.pid for worker in workers_of(service)}
        workers_of(service)[0].kill()
        wait_until(lambda old=old: len({w.pid for w in workers_of(service)} - old) == 1, 0.1)
        look_up(service, 20)
        assert misses(service) == 20 + 20 * killed
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_full_disk_costs_only_the_sum_of_the_metrics(stopped_service):
    """If the files of the metrics cannot have their size, the workers serve without them."""
    service = stopped_service
    service.script = SMALL_FILES + MAIN
    service.options = ("--workers", "2")
    service.start()
    look_up(service, 20)
    assert 0 <= misses(service) <= 20
    assert "are not shared" in service.log
    assert "Traceback" not in service.log
    assert len(workers_of(service)) == 2


def test_only_the_folders_of_ended_services_are_removed(service, tmp_path):
    """A folder of a running service, and one of another program, stay."""
    (used,) = folders(service)
    (service.folder / "imgcache-metrics-other").mkdir()
    with metrics_folder([service.folder, tmp_path]):
        created = set(folders(service)) - {used, service.folder / "imgcache-metrics-other"}
        assert len(created) == 1
    assert {path.name for path in folders(service)} == {used.name, "imgcache-metrics-other"}
    assert list(used.glob("histogram_*.db"))
    with metrics_folder([Path("/no/such/folder")]):
        pass
