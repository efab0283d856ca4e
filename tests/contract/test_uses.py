"""What every cache can say about the uses of images: by pages, items, spiders and jobs."""

import pytest

from imgcache_scrapy import InvalidRequestError
from imgcache_scrapy.core.uses import USE_FIELDS
from tests.support.pictures import jpeg

LONG = "x" * 4096


@pytest.fixture
def stored(client, site, bucket, picture):
    """Store two images."""
    return [
        client.store(f"{site}/{name}.png", picture(), "me", bucket=bucket) for name in ("a", "b")
    ]


def use_of(entry, page, **values):
    """Return a use of an image."""
    names = ("content_hash", "url", "bucket")
    return {**{name: entry[name] for name in names}, "page_url": page, **values}


def test_both_ways_find_a_use(client, stored, site, bucket):
    """A use leads from the image to its page, and from the page to its images, newest first."""
    page = f"{site}/Seite ü?b=1&a=2"
    first = use_of(stored[0], f"{page}#top", item="sku-1", spider="shop", job="j1", position=1)
    first |= {"alt": "A shoe", "caption": "Red", "meta": {"price": 1.5, "tags": ["ü"]}}
    second = use_of(stored[1], page, position=2)
    assert client.record_uses([first, second]) == 2
    (found,) = client.uses(stored[0]["content_hash"])
    assert tuple(found) == USE_FIELDS
    assert found["page_url"] == page.replace(" ", "%20").replace("ü", "%C3%BC")
    assert found["key"] == stored[0]["key"]
    assert found["first_used_at"] == found["used_at"]
    same = first.keys() - {"page_url"}
    assert {name: found[name] for name in same} == {name: first[name] for name in same}
    both = client.used_on(f"{page}#else")
    assert [each["content_hash"] for each in both] == [
        entry["content_hash"] for entry in reversed(stored)
    ]
    assert both[1] == found
    assert both[0]["item"] is both[0]["meta"] is None
    assert client.used_on(page, bucket=f"{bucket}-2") == []
    assert client.used_on(page, limit=1) == both[:1]
    assert client.used_on(f"{site}/other") == client.uses("0" * 64) == []


def test_a_use_that_comes_again_is_renewed(client, stored, site):
    """The next job replaces the job and the texts; the row and the first time stay."""
    page = f"{site}/page"
    for job in ("j1", "j2"):
        assert client.record_uses([use_of(stored[0], page, job=job, alt=job)]) == 1
    (found,) = client.used_on(page)
    assert (found["job"], found["alt"]) == ("j2", "j2")
    assert found["first_used_at"] < found["used_at"]


def test_captures_are_listed_by_page_and_job(client, stored, site):
    """The filters find the captures of the used URLs, and are counted and combined like others."""
    page, job = f"{site}/page", f"{site} job"
    same = client.store(f"{site}/same.png", jpeg(1), "me", bucket=f"{stored[0]['bucket']}-2")
    client.record_uses([use_of(stored[0], page, job=job), use_of(same, f"{page}2", job=job)])
    (found,) = client.list(page_url=f"{page}#part")
    assert found["url"] == stored[0]["url"]
    assert {each["url"] for each in client.list(job=job)} == {stored[0]["url"], same["url"]}
    assert client.list(job=job, page_url=f"{page}2", bucket=same["bucket"])[0]["url"] == same["url"]
    assert client.list(job=job, page_url=f"{page}2", bucket=stored[0]["bucket"]) == []
    assert client.count(page_url=page)["captures"] == 1
    assert client.list(page_url=f"{page}3") == client.list(job=f"{job}2") == []


def test_all_uses_can_be_read_and_written_again(client, stored, bucket, site):
    """The list goes on where the one before ends; a deleted image takes its uses with it."""
    uses = [use_of(stored[n % 2], f"{site}/{n}", position=n + 1) for n in range(5)]
    uses[0] |= {"first_used_at": "2026-01-01", "used_at": "2026-01-02T00:00:00+00:00"}
    client.record_uses(uses)
    found, after = [], None
    while True:
        part = client.list_uses(bucket=bucket, limit=2, after=after)
        found += part
        after = part.after
        if after is None:
            break
        assert len(part) == 2
    assert [each["position"] for each in found] == [5, 4, 3, 2, 1]
    assert found[4]["first_used_at"] == "2026-01-01T00:00:00+00:00"
    assert found[4]["used_at"] == "2026-01-02T00:00:00+00:00"
    client.delete(stored[0]["content_hash"], bucket=bucket)
    assert client.record_uses(found[::-1]) == 2
    assert client.list_uses(bucket=bucket) == found[1::2]


def test_a_long_list_has_pages(client, stored, site, bucket):
    """One answer has a bounded number of uses, and a bounded number of characters."""
    page = f"{site}/page"
    texts = {"alt": LONG, "caption": "ü" * 4096, "item": LONG, "job": "\t" * 4096}
    assert client.record_uses(use_of(stored[0], page, position=n + 1, **texts)
                              for n in range(70)) == 70  # fmt: skip
    assert client.record_uses(use_of(stored[0], page, position=n + 71) for n in range(1100)) == 1100
    found = [each["position"] for each in client.used_on(page)]
    assert found == list(range(1170, 0, -1))
    first = client.uses(stored[0]["content_hash"], limit=1001)
    rest = client.uses(stored[0]["content_hash"], after=first.after)
    assert [each["position"] for each in (*first, *rest)] == found
    assert (len(first), rest.after) == (1001, None)


WRONG = [
    {"content_hash": "a"},
    {"content_hash": None},
    {"url": None},
    {"url": ""},
    {"page_url": 5},
    {"page_url": "\0"},
    {"page_url": "#a"},
    {"item": 5},
    {"item": LONG + "x"},
    {"alt": "\ud800"},
    {"position": 0},
    {"position": "1"},
    {"position": True},
    {"position": 2**31},
    {"meta": [1]},
    {"meta": "text"},
    {"meta": {"a": LONG}},
    {"meta": {"a": float("nan")}},
    {"meta": {"a": object()}},
    {"used_at": "today"},
    {"used_at": 5},
    {"price": 5},
]


def test_wrong_uses_are_refused(client, stored, site):
    """The error is a sentence, and nothing of the use is recorded."""
    for wrong in WRONG:
        with pytest.raises(InvalidRequestError, match=r"\w+ \w+ \w+"):
            client.record_uses([{**use_of(stored[0], f"{site}/page"), **wrong}])
    for wrong in (5, "", "\0"):
        with pytest.raises(InvalidRequestError):
            client.used_on(wrong)
    for method in (client.used_on, client.uses):
        with pytest.raises(InvalidRequestError, match="position"):
            method(stored[0]["content_hash"], after="last")
    with pytest.raises(InvalidRequestError):
        client.record_uses(["use"])
    assert client.uses(stored[0]["content_hash"]) == []
