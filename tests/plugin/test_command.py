"""`scrapy imgcache …`: the commands with the settings of the project."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from imgcache_scrapy import ImgCacheClient
from tests.support.commands import clean_environment
from tests.support.forking import run_python, start
from tests.support.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
# The package may be installed with the entry points of an earlier version.
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]


class Project:
    """A Scrapy project, and `scrapy imgcache …` in a folder of it."""

    def __init__(self, home):
        self.home = home
        self.inside = home / "project" / "shop" / "spiders"
        self.inside.mkdir(parents=True)
        (home / "project" / "scrapy.cfg").write_text("[settings]\ndefault = shop.settings\n")
        (home / "project" / "shop" / "__init__.py").touch()
        installed = home / "site" / "imgcache_scrapy-9.dist-info"
        installed.mkdir(parents=True)
        (installed / "METADATA").write_text("Name: imgcache-scrapy\nVersion: 9\n")
        (installed / "entry_points.txt").write_text(
            "".join(
                f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in names.items())
                for group, names in SCRIPTS.items()
            )
        )
        self.settings = ""

    @property
    def settings(self):
        """The text of the settings module."""
        return (self.home / "project" / "shop" / "settings.py").read_text()

    @settings.setter
    def settings(self, text):
        (self.home / "project" / "shop" / "settings.py").write_text(text)

    def start(self, *words, python=("-m", "scrapy")):
        """Start `scrapy WORDS` in a sub-folder of the project."""
        return subprocess.Popen(
            [sys.executable, *python, *words],
            cwd=self.inside,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words, folder=None, env=None):
        """Return the exit code, the lines of the output, and the text of the errors."""
        out, err = self.home / "out", self.home / "err"
        process = start(
            run_python,
            "from scrapy.cmdline import execute; execute()",
            ["imgcache", *map(str, words)],
            folder=folder or self.inside,
            environment=self.environment | (env or {}),
            out=out,
            err=err,
        )
        process.join(PATIENCE)
        process.kill()
        process.join()
        printed, errors = (path.read_text() for path in (out, err))
        out.unlink()
        err.unlink()
        return process.exitcode, printed.splitlines(), errors

    @property
    def environment(self):
        """The environment of a command, in which Scrapy finds this version of the package."""
        paths = [str(self.home / "site"), *filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT)]
        return clean_environment() | {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture
def project(tmp_path):
    """Create a project without settings for the cache."""
    return Project(tmp_path)


def store(folder, *names, **options):
    """Store one image for each name."""
    with ImgCacheClient(str(folder)) as client:
        for name in names:
            client.store(f"http://h.example/{name}?t=1", name.encode(), "me", **options)


def test_the_settings_of_the_project_hold(project, tmp_path):
    """Cache, bucket, keys and spool are those of the crawls, in each folder; `-s` replaces them."""
    store(tmp_path / "one", "a", key="http://h.example/a", bucket="shop")
    store(tmp_path / "two", "a", "b")
    project.settings = (
        f"IMGCACHE_URL = {str(tmp_path / 'one')!r}\nIMGCACHE_BUCKET = 'shop'\n"
        "IMGCACHE_KEY_IGNORE_PARAMS = {'h.example': ['t']}\n"
        f"IMGCACHE_SPOOL_DIR = {str(tmp_path / 'waiting')!r}\n"
    )
    other = {"IMGCACHE_URL": str(tmp_path / "two"), "IMGCACHE_SPOOL_DIR": str(tmp_path / "x")}
    two = f"IMGCACHE_URL={tmp_path / 'two'}"
    rows = [
        (["ls", "--count"], {"env": other}, 0, ["1"], "one"),
        (["ls", "--count", "-s", two], {}, 0, ["0"], "two"),
        (["ls", "--count", "-s", two, "-s", "IMGCACHE_BUCKET="], {}, 0, ["2"], "two"),
        (["get", "http://h.example/a?t=2"], {}, 0, ["a"], "one"),
        (["spool", "list", "--json"], {"env": other}, 0, [], "waiting"),
        (["paint"], {}, 2, [], "No such command"),
        (["-s", "IMGCACHE_URL=ftp://h", "stats"], {}, 1, [], "IMGCACHE_URL must be"),
    ]
    for words, options, code, out, err in rows:
        done = project.run(*words, **options)
        assert done[:2] == (code, out), (words, done)
        assert err in done[2]
        assert "Traceback" not in done[2]
    # A crawl takes the address from the environment if no setting names it, and so does this.
    project.settings = "IMGCACHE_BUCKET = 'shop'"
    code, _, err = project.run("get", "http://h.example/a?t=1", env=other)
    assert (code, "no image" in err) == (1, True)
    assert f"Cache: {tmp_path / 'two'} (of the Scrapy project" in err


def test_outside_of_a_project(project, tmp_path):
    """One sentence says that there are no settings; then it is `imgcache …`."""
    store(tmp_path / "imgcache", "a")
    code, out, err = project.run("ls", "--json", folder=tmp_path)
    assert (code, [json.loads(line)["url"] for line in out]) == (0, ["http://h.example/a?t=1"])
    assert err.splitlines()[0].startswith("There is no Scrapy project here")
    assert err.splitlines()[1:] == [f"Cache: {tmp_path / 'imgcache'}"]
    code, out, _ = project.run("ls", "--help", folder=tmp_path)
    assert (code, "--url-contains" in "".join(out)) == (0, True)


def test_an_interrupt_reaches_the_command(project):
    """Ctrl-C ends a service as it ends `imgcache serve`."""
    process = project.start("imgcache", "serve", "--port", "0")
    try:
        lines = []
        wait_until(lambda: lines.append(process.stderr.readline()) or "running on" in lines[-1])
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in err
    assert process.returncode in {0, 130, -signal.SIGINT}


def test_other_commands_of_scrapy_do_not_load_the_cache(project):
    """Scrapy imports the command at each start, which loads nothing else of the package."""
    program = (
        "import atexit, sys; from scrapy.cmdline import execute\n"
        "atexit.register(lambda: print(*(n for n in sys.modules if n.startswith('imgcache'))))\n"
        "execute(['scrapy', 'list'])"
    )
    out, _ = project.start(python=["-c", program]).communicate(timeout=PATIENCE)
    assert set(out.split()) == {
        "imgcache_scrapy",
        "imgcache_scrapy.core",
        "imgcache_scrapy.core.environment",
        "imgcache_scrapy.plugin",
        "imgcache_scrapy.plugin.command",
    }
