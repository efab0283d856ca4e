"""`imgcache key`: keys and reasons, by default and by the settings of a project."""

import json

import pytest

from imgcache_scrapy import ImgCacheClient

SIGNED = "https://d1.example/1.jpg?sid=2&utm_id=3&Expires=1&Signature=2&Key-Pair-Id=3"


@pytest.fixture
def project(tmp_path):
    """Return a function that creates a project with these settings in the folder of commands."""

    def create(settings):
        (tmp_path / "scrapy.cfg").write_text("[settings]\ndefault = shop.settings\n")
        (tmp_path / "shop").mkdir()
        (tmp_path / "shop" / "__init__.py").touch()
        (tmp_path / "shop" / "settings.py").write_text(settings)

    return create


def lines(output):
    """Return the lines of an output."""
    return output.decode().splitlines()


def test_key_prints_keys_and_reasons(run):
    """Each URL has a line with its key, a tab and the reason, in the order of the arguments."""
    done = run("key", SIGNED, "HTTP://u:secret@H/ b\t", "https://i3.wp.com/a", "data:,x")
    assert (done.returncode, done.stderr) == (0, b"")
    assert lines(done.stdout)[:3] == [
        "https://d1.example/1.jpg?sid=2&utm_id=3\tcloudfront",
        "http://h/%20b\tplain",
        "https://i0.wp.com/a\tphoton",
    ]
    assert lines(done.stdout)[3].endswith("\tdata")


def test_key_prints_json(run):
    """With --json each line is an object; a password is not in it."""
    done = run("key", "--json", "http://u:secret@h/ü", SIGNED)
    objects = [json.loads(line) for line in lines(done.stdout)]
    assert objects[0] == {"url": "http://h/ü", "key": "http://h/%C3%BC", "reason": "plain"}
    assert objects[1]["reason"] == "cloudfront"


def test_key_names_what_is_no_url(run):
    """The other URLs have their lines, and the exit code is 1."""
    done = run("key", "http://a/", "", "http://[/", "http://b/")
    assert done.returncode == 1
    assert lines(done.stdout) == ["http://a/\tplain", "http://b/\tplain"]
    assert [line[:10] for line in lines(done.stderr)] == ["imgcache: "] * 2


def test_key_uses_the_settings_of_the_project(run, project, tmp_path):
    """In a project, a key is what its crawls look up; a line on standard error says so."""
    project(
        'IMGCACHE_KEY_PRESETS = ["utm", "cloudfront"]\n'
        'IMGCACHE_KEY_IGNORE_PARAMS = {"example": ["sid"]}\n'
    )
    done = run("key", SIGNED)
    assert lines(done.stdout) == ["https://d1.example/1.jpg\tcloudfront, utm, ignored parameters"]
    assert lines(done.stderr) == [f"Settings: of the Scrapy project {tmp_path}"]


def test_key_uses_the_function_of_the_project(run, project, tmp_path):
    """A function that fails for one URL is named, and the others have their lines."""
    project('IMGCACHE_KEY_FUNCTION = "shop.keys.key"\n')
    (tmp_path / "shop" / "keys.py").write_text(
        'def key(url):\n    return None if "bad" in url else url.split("?")[0]\n'
    )
    done = run("key", SIGNED, "http://bad/")
    assert done.returncode == 1
    assert lines(done.stdout) == ["https://d1.example/1.jpg\tuser rule"]
    assert "IMGCACHE_KEY_FUNCTION returned no URL" in lines(done.stderr)[-1]


def test_key_stops_at_a_wrong_setting(run, project):
    """An unknown preset is told in one sentence that names the known ones."""
    project('IMGCACHE_KEY_PRESETS = ["s4"]\n')
    done = run("key", SIGNED)
    assert (done.returncode, done.stdout) == (1, b"")
    assert "IMGCACHE_KEY_PRESETS must be a list of presets" in lines(done.stderr)[-1]
    assert "s3, cloudfront, gcs" in lines(done.stderr)[-1]


def test_commands_look_up_the_keys_of_the_project(run, project, tmp_path):
    """`get` and `history` find what its crawls find; an error of its function is told."""
    project('IMGCACHE_KEY_FUNCTION = "shop.keys.key"\nIMGCACHE_URL = "cache"\n')
    (tmp_path / "shop" / "keys.py").write_text(
        'def key(url):\n    return None if "bad" in url else url.split("?")[0]\n'
    )
    with ImgCacheClient(str(tmp_path / "cache")) as client:
        client.store("http://a.test/1?x=1", b"GIF89a", "me", key="http://a.test/1")
    assert run("get", "http://a.test/1?x=2").stdout == b"GIF89a"
    (entry,) = lines(run("history", "http://a.test/1?x=2", "--json").stdout)
    assert json.loads(entry)["url"] == "http://a.test/1?x=1"
    done = run("history", "http://bad/")
    assert done.returncode == 1
    assert "IMGCACHE_KEY_FUNCTION returned no URL" in lines(done.stderr)[-1]
