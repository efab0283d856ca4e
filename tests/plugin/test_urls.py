"""Unusual URLs in crawls: fragments, and what a log line shows of them."""

import pytest

from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK

ROADS = {"pipeline": PIPELINE, "drop-in": FILES, "middleware": STOCK}


@pytest.mark.parametrize("road", ROADS)
def test_a_fragment_makes_no_other_image(crawl, site, road):
    """It is fetched and counted once; the results have the spellings of the item."""
    site.answers["/a.jpg"] = jpeg(1)
    urls = [f"{site.url}/a.jpg{end}" for end in ("#1", "", "#2")]
    settings = ROADS[road] | {"FILES_EXPIRES": -1}
    for fates in ({"stored": 1}, {"hit": 1}):
        done = crawl([{"image_urls": urls}], settings)
        assert (done.fates, done.stats["imgcache/lookup"]) == (fates, 1)
        if road != "middleware":
            # In Scrapy's pipelines, the results of equal requests are one.
            expected = urls if road == "pipeline" else urls[:1] * 3
            assert [image["url"] for image in done.items[0]["images"]] == expected
    assert site.images_asked() == {"/a.jpg": 1}


@pytest.mark.parametrize("road", ["pipeline", "drop-in"])
def test_a_url_breaks_no_line_of_the_log(crawl, road):
    """Nor shows its password, nor stops the logging."""
    urls = [
        "http://me:secret@127.0.0.1:9/a.jpg",
        "/relative\nFORGED LINE",
        "http://127.0.0.1:9/\x1b[31m.jpg",
        "http://me:secret@[bad/a.jpg",
        "http://127.0.0.1:9/\ud800.jpg",
    ]
    done = crawl([{"image_urls": urls}], ROADS[road] | {"RETRY_ENABLED": False})
    ours = "\n".join(done.warnings)
    # Scrapy itself writes the lines of its pipelines.
    assert (done.fates, len(done.warnings)) == ({"failed": 5}, 5 if road == "pipeline" else 0)
    assert "secret" not in ours
    assert "\x1b" not in ours
    assert "\nFORGED" not in done.log
    assert "Logging error" not in done.log
