"""The cookbook's commands, each in the folder of a real project."""

import json
import shutil
import threading

import pytest

from imgcache_scrapy import BlockedError
from tests.support.pictures import jpeg
from tests.support.readme import does
from tests.support.service import Service, new_storage_environment
from tests.support.site import respond
from tests.support.waiting import PATIENCE, wait_until


@pytest.fixture
def served(filled):
    """Serve the cache of the project, and let the lines of the README ask this service."""
    service = Service(filled.home / "service", str(filled.cache))
    service.start()
    filled.replaced["http://127.0.0.1:8010"] = service.url
    yield filled
    service.stop()


def urls_left(shop):
    """Return the names of the pictures that the cache has."""
    with shop.client() as client:
        return sorted(entry["url"].rsplit("/")[-1] for entry in client.list())


@does("monitor a service")
def test_metrics(served, job):
    """The service tells Prometheus what it does."""
    assert "imgcache_lookup_total" in served.shell(job)


@does("use the REST API with curl")
def test_rest(served, job):
    """The entry of a URL comes as JSON."""
    entry = json.loads(served.shell(job))
    assert (entry["url"], entry["width"]) == (served.url, 160)


@does("go on after a crawl was killed")
def test_kill_and_go_on(shop, job):
    """What the killed crawl has stored is not asked for again."""
    is_killed = threading.Event()
    second = shop.originals["2.jpg"]

    def wait(handler):
        is_killed.wait(PATIENCE)
        respond(handler, second.body)

    second.trouble = wait
    crawl = shop.start_crawl()
    wait_until(lambda: second.requests and urls_left(shop) == ["1.jpg"])
    crawl.kill()
    crawl.result()
    is_killed.set()
    shop.shell(job)
    assert [each["status"] for each in shop.item("shop")["images"]] == ["cached", "downloaded"]
    assert {name: each.requests for name, each in shop.originals.items()} == {
        "1.jpg": 1,
        "2.jpg": 2,
    }


@does("run several crawls at once")
def test_several_crawls(shop, job):
    """Both crawls deliver all pictures, and the cache has each of them once."""
    shop.shell(job)
    for spider in ("shop", "outlet"):
        assert len(shop.item(spider)["images"]) == 2
    assert urls_left(shop) == ["1.jpg", "2.jpg"]
    with shop.client() as client:
        assert client.stats()["images"] == 2


@does("fetch all pictures of a spider again")
def test_refresh(filled, job):
    """The site is asked for each picture, also for new ones."""
    filled.originals["1.jpg"].body = jpeg(9)
    filled.shell(job)
    assert filled.asked == 2
    assert [each.get("changed") for each in filled.item("shop")["images"]] == [True, None]


@does("fetch those again that are older than 7 days")
def test_refresh_old(shop, job):
    """Only the old picture is asked for."""
    shop.store({"1.jpg": 8, "2.jpg": 6})
    shop.shell(job)
    assert {name: each.requests for name, each in shop.originals.items()} == {
        "1.jpg": 1,
        "2.jpg": 0,
    }


@does("export pictures with a manifest")
def test_export(filled, job):
    """The files and the list of their URLs are there; other hosts' pictures are not."""
    with filled.client() as client:
        client.store("http://b.example/x.jpg", jpeg(5), "me")
    filled.shell(job)
    folder = filled.project / "pictures"
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert {row["url"] for row in rows} == {f"{filled.site.url}/{n}" for n in filled.originals}
    data = {(folder / row["file_name"]).read_bytes() for row in rows}
    assert data == {each.body for each in filled.originals.values()}


@does("import an `IMAGES_STORE`")
def test_import(shop, job):
    """After a crawl without the cache and an import, a crawl with it asks for no picture."""
    scrapys = 'ITEM_PIPELINES = {"scrapy.pipelines.images.ImagesPipeline": 1}'
    shop.write_settings(more=f'{scrapys}\nIMAGES_STORE = "images"', addon=False)
    shop.crawl()
    shutil.copy(shop.project / "shop.jsonl", shop.project / "items.jsonl")
    assert "2 stored" in shop.shell(job)
    shop.write_settings()
    assert [each["status"] for each in shop.crawl()["images"]] == ["cached", "cached"]
    assert shop.asked == 2


@does("take down the pictures of a host")
def test_take_down(filled, job):
    """After a yes, the pictures of the host are gone, and no others."""
    with filled.client() as client:
        client.store("http://b.example/x.jpg", jpeg(5), "me")
    assert "deleted 2 captures" in filled.shell(job, stdin="y\n")
    assert urls_left(filled) == ["x.jpg"]


@does("keep them from coming back")
def test_take_down_for_good(filled, job):
    """The next crawl asks for none of them, and nobody can store one."""
    filled.shell(job, stdin="y\n")
    assert filled.crawl()["images"] == []
    with filled.client() as client, pytest.raises(BlockedError):
        client.store(filled.url, jpeg(5), "me")
    assert (urls_left(filled), filled.asked) == ([], 0)


@does("see the space that each host takes")
def test_space(filled, job):
    """A line has the host, its captures, its images and their bytes."""
    size = sum(len(each.body) for each in filled.originals.values())
    (line,) = [line for line in filled.shell(job).splitlines() if "127.0.0.1" in line]
    assert line.replace("│", " ").split() == ["127.0.0.1", "2", "2", f"{size:,}"]


@does("refuse a placeholder")
def test_placeholder(shop, job):
    """A crawl does not deliver the blocked picture."""
    shop.crawl()
    (shop.project / "no-image.jpg").write_bytes(shop.originals["1.jpg"].body)
    shop.shell(job)
    assert [each["url"] for each in shop.crawl()["images"]] == [f"{shop.site.url}/2.jpg"]


@does("back up the cache")
def test_backup(filled, job):
    """The copy is a cache by itself."""
    filled.shell(job)
    with filled.client(folder=filled.home / "today") as copy:
        assert copy.get_bytes(copy.lookup(filled.url)["content_hash"])


@does("move the cache to a server")
def test_copy(filled, job, postgresql, object_store, monkeypatch):
    """The database and the bucket of the server have the pictures."""
    storage = new_storage_environment(postgresql, object_store)
    names = {"postgresql+psycopg://imgcache@db/imgcache": "DATABASE", "s3://bucket/prefix": "BLOBS"}
    filled.replaced |= {url: storage[f"IMGCACHE_{name}_URL"] for url, name in names.items()}
    for name, value in storage.items():
        monkeypatch.setenv(name, value)
    assert filled.shell(job).startswith("2 captures, 2 copied")
    with filled.client(folder=filled.home / "nothing") as server:
        assert server.get_bytes(server.lookup(filled.url)["content_hash"])


@does("remove what was not used for 90 days")
def test_prune(filled, job):
    """The picture that was not used for a longer time goes."""
    filled.set_last_use("1.jpg", days=91)
    filled.set_last_use("2.jpg", days=89)
    filled.shell(job)
    assert urls_left(filled) == ["2.jpg"]


@does("list the pictures of a page (with `IMGCACHE_PROVENANCE`)")
def test_pictures_of_a_page(filled, job):
    """The picture of the page is listed, one that it does not show is not."""
    filled.show("1.jpg")
    filled.write_settings(more="IMGCACHE_PROVENANCE = True")
    filled.crawl()
    (line,) = filled.shell(job).splitlines()
    assert filled.url in line


@does("see which pictures a URL has given")
def test_history(filled, job):
    """Both pictures of the URL are listed."""
    with filled.client() as client:
        hashes = [client.store(filled.url, jpeg(9), "me")["content_hash"]]
        hashes += [each["content_hash"] for each in client.history(filled.url)[1:]]
    text = filled.shell(job)
    assert len(hashes) == 2
    assert all(each in text for each in hashes)
