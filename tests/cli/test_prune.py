"""`imgcache prune`."""

import json

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.engine.catalog.rows import today
from tests.support.commands import assert_failed
from tests.support.programs import catalog_of


def filled(folder):
    """Create a cache with three images; two of them were last used in earlier weeks."""
    with ImgCacheClient(str(folder)) as client:
        for number in range(3):
            client.store(f"http://h.example/{number}", bytes([number]) * 1000, "me")
    with catalog_of(folder) as catalog:
        for number, days in enumerate((0, 10, 20)):
            catalog.execute(
                "UPDATE image SET last_used = ? WHERE content_hash ="
                " (SELECT content_hash FROM capture WHERE url = ?)",
                (today() - days, f"http://h.example/{number}"),
            )
        catalog.commit()
    return folder


def test_prune_counts_first_and_then_removes(run, tmp_path):
    """A dry run has the numbers of the run after it, and removes nothing."""
    folder = filled(tmp_path / "cache")
    dry = run("prune", folder, "--max-bytes", "2kB", "--dry-run")
    assert dry.stdout == b"1 images, 1,000 bytes would be removed\n"
    assert dry.stderr == f"Cache: {folder}\n".encode()
    assert run("ls", folder, "--count").stdout == b"3\n"
    assert run("prune", folder, "--max-bytes", "2kB").stdout == b"1 images, 1,000 bytes removed\n"
    done = run("prune", "--cache", folder, "--unused-for", "9d", "--json")
    assert json.loads(done.stdout) == {"images": 1, "bytes": 1000}
    assert run("prune", folder, "--older-than", "0d").stdout == b"0 images, 0 bytes removed\n"


def test_a_cap_that_cannot_be_held_is_told(run, tmp_path):
    """The images that were used today stay, and one line says so, also before a removal."""
    folder = filled(tmp_path / "cache")
    told = b"the images that were used today stay, so the cache has 1,000 bytes, more than 500\n"
    for options in (["--dry-run"], ["--json"]):
        done = run("prune", folder, "--max-bytes", "500", *options)
        assert done.returncode == 0
        assert done.stderr.endswith(told)
    assert run("prune", folder, "--max-bytes", "1kB").stderr.count(b"\n") == 1


def test_wrong_options_are_one_sentence(run, tmp_path, shared_service):
    """Without a rule nothing is removed; a service is pruned where it runs."""
    folder = filled(tmp_path / "cache")
    assert_failed(run("prune", folder), "--max-bytes, --unused-for or --older-than")
    assert_failed(run("prune", folder, "--max-bytes", "much"), "500MB")
    assert_failed(run("prune", folder, "--unused-for", "1h"), "90d")
    assert_failed(run("prune", shared_service.url, "--max-bytes", "1"), "is a service")
