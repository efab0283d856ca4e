"""`imgcache export` in its four formats; imports of exports."""

import json
import subprocess
import sys
import tarfile
from io import BytesIO

import pyarrow.parquet as pq
import pytest
from PIL import Image

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.cli.transfer.exporting import Export, export_images
from imgcache_scrapy.core.entry import blob_key, content_hash_of
from tests.cli.transfer.test_import import counts
from tests.support.commands import assert_failed
from tests.support.pictures import jpeg, picture

FACTS = ("url", "key", "content_hash", "bucket", "client_name", "lookup_time", "original_filename")


def fill(address, site, bucket=""):
    """Store pictures with histories, duplicates and hostile names; return how many images."""
    with ImgCacheClient(address, bucket=bucket) as client:
        for seed in range(10):
            client.store(f"{site}/{seed}.png", picture(seed), "me", f"2025-01-01T00:00:0{seed}Z")
        client.store(f"{site}/again.png", picture(1), "other", "2025-02-01", "../ü:\u202e.png")
        client.store(f"{site}/1.png", picture(11), "me", "2025-03-01", headers={"ETag": '"x"'})
        client.store(f"{site}/1.png", picture(1), "me", "2025-04-01", final_url=f"{site}/f.png")
        client.store(f"{site}/keyed.png", jpeg(1), "me", key="http://k.example/", filename="a.b.c")
        client.store(f"{site}/marked.jpg", jpeg(2), "me", headers={"Imgcache-Converted": "yes"})
    return 13


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Return the folder of a cache with 13 images; for reading only."""
    folder = tmp_path_factory.mktemp("filled") / "cache"
    fill(str(folder), "http://h.example")
    return folder


def captures_of(address, bucket=None):
    """Return what is the same in a cache and in the import of its export."""
    with ImgCacheClient(address) as client:
        found = client.list(bucket=bucket)
    more = ("headers", "final_url", "converted", "accept")
    return sorted(
        json.dumps([*(each[name] for name in FACTS), *(each.get(name) for name in more)])
        for each in found
    )


def numbers(images, written=0, kept=0, bad=0):
    """Return the counts of an export."""
    return {"images": images, "written": written, "kept": kept, "bad": bad}


def rows_of(manifest):
    """Return the rows of a manifest."""
    return [json.loads(line) for line in manifest.read_text().splitlines()]


@pytest.mark.parametrize("kind", ["files", "imagefolder"])
def test_the_import_of_an_export_is_an_equal_cache(run, filled, tmp_path, kind):
    """Each image is one file, with all its captures; histories, keys and marks are the same."""
    done = run("export", "out", "--cache", filled, "--format", kind, "--json")
    assert (done.returncode, counts(done)[0]) == (0, numbers(13, written=13))
    (manifest,) = (tmp_path / "out").glob("*.jsonl")
    for row in rows_of(manifest):
        assert (
            content_hash_of((tmp_path / "out" / row["file_name"]).read_bytes())
            == (row["content_hash"])
        )
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) == 14
    done = run("import", "out", "--manifest", manifest, "--cache", "copy", "--json")
    assert done.returncode == 0
    assert captures_of(str(tmp_path / "copy")) == captures_of(str(filled))
    again = run("import", "out", "--manifest", manifest, "--cache", "copy", "--json")
    assert counts(again)[0]["known"] == len(captures_of(str(filled))) == 15


def test_an_export_of_a_service(run, shared_service, site, tmp_path):
    """It is the same through HTTP, with a bucket as its filter."""
    count = fill(shared_service.url, site, site)
    options = ("export", "out", "--cache", shared_service.url, "--bucket", site, "--json")
    assert counts(run(*options))[0] == numbers(count, written=count)
    assert counts(run(*options))[0] == numbers(count, kept=count)
    run("import", "out", "--manifest", "out/manifest.jsonl", "--cache", "copy")
    assert captures_of(str(tmp_path / "copy")) == captures_of(shared_service.url, site)


def test_names_are_safe_and_the_same_at_every_run(run, filled, tmp_path):
    """They come from the oldest capture; no name leads out of the folder; drafts are gone."""
    run("export", "out", "--cache", filled)
    names = {
        row["content_hash"]: row["file_name"] for row in rows_of(tmp_path / "out/manifest.jsonl")
    }
    one = content_hash_of(picture(1))
    assert names[one] == f"h.example/1-{one[:8]}.png"
    assert names[content_hash_of(jpeg(1))] == f"h.example/a.b-{content_hash_of(jpeg(1))[:8]}.jpg"
    run("export", "out2", "--cache", filled)
    listed = [
        sorted(str(path.relative_to(tmp_path / out)) for path in (tmp_path / out).rglob("*"))
        for out in ("out", "out2")
    ]
    assert listed[0] == listed[1]
    assert not any(name.startswith(".") or "/." in name for name in listed[0])


def test_pictures_of_one_name_get_their_hash(run, filled, tmp_path):
    """A template without a hash loses no picture, also if names differ in letter case only."""
    done = run("export", "out", "--cache", filled, "--name", "{client}.{ext}", "--json")
    assert counts(done)[0] == numbers(13, written=13)
    assert len({*map(str.casefold, (path.name for path in (tmp_path / "out").iterdir()))}) == 14


@pytest.mark.parametrize(
    "template",
    [
        *("../{hash}", "/tmp/{hash}", "{nothing}", "{hash.x}", "{", "a/", "{hash}/../x", ""),
        *("{hash:%}", "{hash!z}", "{width:{hash}}"),
    ],
)
def test_a_wrong_template_is_one_sentence(run, filled, tmp_path, template):
    """Nothing is written."""
    assert_failed(run("export", "out", "--cache", filled, "--name", template))
    assert not (tmp_path / "out").exists()


def test_a_size_in_a_name_is_a_number(run, tmp_path):
    """`{width:05}` has zeros before the number."""
    with ImgCacheClient(str(tmp_path / "c")) as client:
        client.store("http://h.example/1.png", picture(1, side=8), "me")
    run("export", "out", "--cache", "c", "--name", "{width:05}x{height}.{ext}")
    assert (tmp_path / "out" / "00008x8.png").exists()


def test_names_in_shards_are_refused(run, filled, tmp_path):
    """A shard has the hashes of its pictures as their names, so a template would be ignored."""
    given = ("export", "out", "--cache", filled, "--format")
    for name in ("webdataset", "parquet"):
        assert_failed(run(*given, name, "--name", "{hash}"), "--name", "files and imagefolder")
    assert not (tmp_path / "out").exists()


def test_a_hostile_name_stays_in_the_folder(run, tmp_path):
    """Names and hosts of the web lose what has a meaning in paths."""
    with ImgCacheClient(str(tmp_path / "c")) as client:
        odd = ("..", ".ssh", "a/../../b", "CON|\n?", "ü" * 300, "\u2028", "%2e%2e")
        for seed, name in enumerate(odd):
            client.store(f"http://[::1]/{seed}", picture(seed), "../..", filename=name)
    template = "{client}/{host}/{name}/{bucket}/{hash8}.{ext}"
    done = run("export", "deep/out", "--cache", "c", "--name", template)
    assert done.returncode == 0, done.stderr
    found = [path for path in tmp_path.rglob("*.png") if "blobs" not in path.parts]
    assert len(found) == len(odd)
    assert all(len(path.relative_to(tmp_path / "deep/out").parts) == 5 for path in found)


def test_a_file_that_cannot_be_written_is_one_sentence(run, tmp_path):
    """An export that ends early has more pictures to come, and prints nothing about them."""
    with ImgCacheClient(str(tmp_path / "c")) as client:
        for seed in range(200):
            client.store(f"http://h.example/{seed}.png", picture(seed, side=8), "me")
    (tmp_path / "out" / "me.png").mkdir(parents=True)
    done = run("export", "out", "--cache", "c", "--name", "{client}.{ext}")
    assert_failed(done, "me.png", "directory")


def test_formats_under_one_url_stay_apart(run, tmp_path):
    """The import of an export is a hit for the same `Accept` as before, and for no other one."""
    url, formats = "http://h.example/v", {"image/webp": picture(1), "": picture(2)}
    with ImgCacheClient(str(tmp_path / "c")) as client:
        for accept, data in formats.items():
            client.store(url, data, "me", headers={"Vary": "Accept"}, accept=accept)
    run("export", "out", "--cache", "c")
    run("import", "out", "--manifest", "out/manifest.jsonl", "--cache", "copy")
    assert captures_of(str(tmp_path / "copy")) == captures_of(str(tmp_path / "c"))
    with ImgCacheClient(str(tmp_path / "copy")) as client:
        for accept, data in formats.items():
            assert client.lookup(url, accept=accept)["content_hash"] == content_hash_of(data)
        assert client.lookup(url, accept="image/avif") is None


def test_filters_choose_the_captures(run, filled, tmp_path):
    """The filters are those of `ls`; the manifest has only the captures that meet them."""
    done = run("export", "out", "--cache", filled, "--client", "other", "--json")
    assert counts(done)[0] == numbers(1, written=1)
    (row,) = rows_of(tmp_path / "out/manifest.jsonl")
    assert [each["client_name"] for each in json.loads(row["captures"])] == ["other"]
    none = run("export", "none", "--cache", filled, "--host", "nobody.example", "--json")
    assert (none.returncode, counts(none)[0]) == (0, numbers(0))


def test_an_export_goes_on_and_repairs(run, filled, tmp_path):
    """Files that are there are kept; a file with other bytes, or a link, is written again."""
    options = ("export", "out", "--cache", filled, "--name", "{hash}.{ext}", "--json")
    run(*options)
    names = [f"{content_hash_of(picture(seed))}.png" for seed in (1, 2, 3)]
    paths = [tmp_path / "out" / name for name in names]
    paths[0].unlink()
    paths[1].write_bytes(b"x" * paths[1].stat().st_size)
    target = paths[2].rename(tmp_path / "target.png")
    paths[2].symlink_to(target)
    assert counts(run(*options))[0] == numbers(13, written=3, kept=10)
    assert [content_hash_of(path.read_bytes()) for path in paths] == [name[:64] for name in names]
    assert not paths[2].is_symlink()
    assert all(path.stat().st_nlink == 1 for path in paths)


def test_what_is_left_of_an_earlier_export_is_told(run, filled, tmp_path):
    """A file or a shard that only the earlier export had would double pictures in a data set."""
    run("export", "out", "--cache", filled)
    done = run("export", "out", "--cache", filled, "--client", "other", "--json")
    assert (done.returncode, counts(done)[0]) == (1, numbers(1, written=1, bad=13))
    options = ("--cache", filled, "--format", "webdataset", "--json")
    run("export", "tars", *options, "--shard-bytes", "10000")
    done = run("export", "tars", *options)
    assert done.returncode == 1
    assert "left from an earlier export" in counts(done)[1]["data-000001.tar"]


@pytest.mark.parametrize("kind", ["files", "imagefolder", "webdataset", "parquet"])
def test_a_damaged_image_is_told_and_skipped(run, tmp_path, kind):
    """The others are exported; once the image is whole again, the export is completed."""
    fill(str(tmp_path / "c"), "http://h.example")
    blob = tmp_path / "c/blobs" / blob_key(content_hash_of(picture(3)))
    (tmp_path / "c/blobs" / blob_key(content_hash_of(picture(4)))).unlink()
    blob.write_bytes(b"damaged")
    options = ("export", "out", "--cache", "c", "--format", kind, "--json")
    done = run(*options)
    assert (done.returncode, counts(done)[0]) == (1, numbers(13, written=11, bad=2))
    assert set(counts(done)[1]) == {f"http://h.example/{seed}.png" for seed in (3, 4)}
    with ImgCacheClient(str(tmp_path / "c")) as client:
        for seed in (3, 4):
            time = f"2025-01-01T00:00:0{seed}Z"
            client.store(f"http://h.example/{seed}.png", picture(seed), "me", time)
    done = run(*options)
    assert done.returncode == 0
    assert sum(counts(done)[0][name] for name in ("written", "kept")) == 13
    assert counts(run(*options))[0] == numbers(13, kept=13)


def test_webdataset(run, filled, tmp_path):
    """Each sample has the file and its facts under one stem; a shard has a bounded size."""
    options = ("--cache", filled, "--format", "webdataset", "--shard-bytes", "15000")
    run("export", "out", *options)
    shards = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in shards[:2]] == ["data-000000.tar", "data-000001.tar"]
    assert all(path.stat().st_size <= 20_480 for path in shards)
    samples = {}
    for path in shards:
        with tarfile.open(path) as tar:
            for member in tar:
                stem, _, kind = member.name.partition(".")
                samples.setdefault(stem, {})[kind] = tar.extractfile(member).read()
    assert len(samples) == 13
    for stem, sample in samples.items():
        facts = json.loads(sample.pop("json"))
        ((kind, data),) = sample.items()
        assert content_hash_of(data) == stem == facts["content_hash"]
        assert facts["file_name"] == f"{stem}.{kind}"
    run("export", "again", *options)
    again = sorted((tmp_path / "again").iterdir())
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in shards]


def test_parquet(run, filled, tmp_path):
    """The column `image` has the bytes and the name, as Hugging Face datasets reads it."""
    run("export", "out", "--cache", filled, "--format", "parquet", "--shard-bytes", "15000")
    shards = sorted((tmp_path / "out").iterdir())
    assert shards[1].name == "data-000001.parquet"
    rows = [row for path in shards for row in pq.read_table(path).to_pylist()]
    assert len(rows) == len({row["content_hash"] for row in rows}) == 13
    for row in rows:
        assert content_hash_of(row["image"]["bytes"]) == row["content_hash"]
        with Image.open(BytesIO(row["image"]["bytes"])) as image:
            assert image.size == (row["width"], row["height"])
    features = json.loads(pq.read_schema(shards[0]).metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert set(features) == set(rows[0])


@pytest.mark.parametrize("kind", ["files", "imagefolder", "webdataset", "parquet"])
def test_splits_depend_on_the_hash_alone(run, filled, tmp_path, kind):
    """A picture is in the same split at every run, whatever else is exported."""
    options = ("--format", kind, "--split", "train=0.5,test=0.5", "--json")
    assert counts(run("export", "out", "--cache", filled, *options))[0] == numbers(13, written=13)

    def hashes(folder, split):
        if kind in {"files", "imagefolder"}:
            (manifest,) = (tmp_path / folder / split).glob("*.jsonl")
            return {row["content_hash"] for row in rows_of(manifest)}
        (path,) = (tmp_path / folder).glob(f"{split}-*")
        if kind == "parquet":
            return set(pq.read_table(path)["content_hash"].to_pylist())
        with tarfile.open(path) as tar:
            return {name[:64] for name in tar.getnames()}

    train, test = hashes("out", "train"), hashes("out", "test")
    assert len(train) + len(test) == len(train | test) == 13
    assert all(name[0] in "01234567" for name in train)
    some = tuple(options[:4])
    run("export", "some", "--cache", filled, *some, "--until", "2025-01-02")
    assert hashes("some", "train") < train
    done = run("export", "out", "--cache", filled, *options, "--host", "nobody.example")
    left = 13 if kind in {"files", "imagefolder"} else 2
    assert (done.returncode, counts(done)[0]) == (1, numbers(0, bad=left))


@pytest.mark.parametrize("split", ["train", "train=0.5", "train=x", "=1", "a/b=1", "a=2,b=-1"])
def test_wrong_splits_are_one_sentence(run, filled, split):
    """The sentence has an example."""
    assert_failed(run("export", "out", "--cache", filled, "--split", split), "train=0.9,test=0.1")


def test_other_wrong_arguments_are_one_sentence(run, filled):
    """There is no such format, filter value or cache."""
    assert_failed(run("export", "out", "--cache", filled, "--format", "zip"), "webdataset")
    assert_failed(run("export", "out", "--cache", filled, "--min-width", "-1"), "min_width")
    assert_failed(run("export", "out", "--cache", "nothing"), "no cache")


def test_the_function_calls_back(filled, tmp_path):
    """`export_images` does the same as the command, and tells its progress."""
    totals, steps = [], []
    what = Export(tmp_path / "out", on_total=totals.append, on_progress=steps.append)
    assert export_images(str(filled), what) == numbers(13, written=13)
    assert (totals, sum(steps)) == ([13], 13)


@pytest.mark.parametrize("kind", ["files", "webdataset", "parquet"])
def test_a_file_that_cannot_be_written_whole_is_not_kept(tmp_path, kind):
    """With a limit of the size of files, an export fails and leaves no part of an image."""
    data = jpeg(1) + bytes(400_000)
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        client.store("http://h.example/large.jpg", data, "me")
    out = tmp_path / "out"
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000));"
        "from imgcache_scrapy.cli.main import main; main()"
    )
    words = ["export", out, "--cache", tmp_path / "cache", "--format", kind]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=False)
    assert done.returncode != 0
    assert b"Traceback" not in done.stderr
    kept = [path for path in out.rglob("*") if path.is_file() and path.suffix != ".part"]
    assert kept == []
