"""Crawls of the drop-ins whose disk is full for a while."""

import pytest

from tests.support.pictures import jpeg
from tests.support.pipelines import FILES

IMAGES = {"IMAGES_STORE": "images", "IMAGES_THUMBS": {"small": (8, 8)}}
PLACE = "tests.support.full_disks"
FULL_FILES = FILES | {"ITEM_PIPELINES": {f"{PLACE}.FullFiles": 1}}
FULL_IMAGES = IMAGES | {"ITEM_PIPELINES": {f"{PLACE}.FullImages": 1}}


@pytest.mark.parametrize(
    "case",
    [(FULL_FILES, "full", 1), (FULL_IMAGES, "full", 2), (FULL_IMAGES, "thumb", 2)],
)
def test_a_part_of_a_file_is_written_again(case, site, crawl, tmp_path):
    """The part is not up to date in the next crawl, which takes the image from the cache."""
    settings, part_of_path, files = case
    site.answers["/a.jpg"] = jpeg(1)
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    full = tmp_path / "full"
    full.write_text(part_of_path)
    assert crawl(items, settings).fates == {"failed": 1}
    full.unlink()
    done = crawl(items, settings)
    assert [image["status"] for item in done.items for image in item["images"]] == ["cached"]
    written = [path for name in ("files", "images") for path in (tmp_path / name).rglob("*.jpg")]
    assert len(written) == files
    assert all(path.read_bytes().endswith(b"\xff\xd9") for path in written)
    assert site.images_asked().total() == 1
