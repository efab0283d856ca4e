"""Which cache and which spool a command uses, and what it says about that."""

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.client.spool import Spool
from tests.support.commands import assert_failed, run_imgcache
from tests.support.records import filled

URL = "http://h.example/a.png"


class Project:
    """A Scrapy project; `settings` is the text of its settings module."""

    def __init__(self, folder):
        self.folder = folder
        self.inside = folder / "shop" / "spiders"
        self.inside.mkdir(parents=True)
        (folder / "scrapy.cfg").write_text("[settings]\ndefault = shop.settings\n")
        (folder / "shop" / "__init__.py").touch()
        self.settings = ""

    @property
    def settings(self):
        """The text of the settings module."""
        return (self.folder / "shop" / "settings.py").read_text()

    @settings.setter
    def settings(self, text):
        (self.folder / "shop" / "settings.py").write_text(text)

    def run(self, *words, **options):
        """Run a command in a folder below that of the project."""
        return run_imgcache(self.inside, *words, **options)


@pytest.fixture
def project(tmp_path):
    """Make a project without settings of the cache."""
    return Project(tmp_path / "project")


def images_in(done):
    """Return how many images `imgcache stats` counted."""
    assert done.returncode == 0, done.stderr.decode()
    (line,) = [line for line in done.stdout.decode().splitlines() if "images" in line]
    return int("".join(filter(str.isdigit, line)))


def store(address, *images, **options):
    """Store images in a cache."""
    with ImgCacheClient(str(address), **options) as client:
        for number, data in enumerate(images):
            client.store(f"http://h.example/{number}.png", data, "me")


def said(done):
    """Return the lines on standard error."""
    return done.stderr.decode().splitlines()


def test_a_command_uses_the_cache_of_the_project(project):
    """From any folder below `scrapy.cfg`, it is the one in the project's data folder."""
    cache = project.folder / ".scrapy" / "imgcache"
    store(cache, b"one", b"two")
    for words in (["stats"], ["verify"], ["gc"]):
        done = project.run(*words)
        assert done.returncode == 0
        assert said(done) == [f"Cache: {cache} (of the Scrapy project {project.folder})"]
    assert images_in(project.run("stats")) == 2


def test_a_command_uses_the_cache_that_the_settings_name(project, tmp_path):
    """An IMGCACHE_URL in the settings module counts; what the module prints is not the result."""
    store(tmp_path / "elsewhere", b"one")
    project.settings = f"print('noise')\nIMGCACHE_URL = {str(tmp_path / 'elsewhere')!r}\n"
    done = project.run("get", "http://h.example/0.png")
    assert done.stdout == b"one"
    where = f"{tmp_path / 'elsewhere'} (of the Scrapy project {project.folder})"
    assert said(done) == ["noise", f"Cache: {where}"]


def test_a_command_uses_the_token_and_the_bucket_of_the_project(project, stopped_service):
    """It sees what the crawls see: the service opens, and images of other buckets do not count."""
    stopped_service.environment = {"IMGCACHE_TOKEN": "secret"}
    stopped_service.start()
    store(stopped_service.url, b"mine", token="secret", bucket="shop")
    store(stopped_service.url, b"other", token="secret")
    project.settings = (
        f"IMGCACHE_URL = {stopped_service.url!r}\nIMGCACHE_TOKEN = 'secret'\n"
        "IMGCACHE_BUCKET = 'shop'\n"
    )
    done = project.run("get", "http://h.example/0.png")
    assert done.stdout == b"mine"
    assert b"secret" not in done.stderr
    assert_failed(project.run("stats", env={"IMGCACHE_TOKEN": "wrong"}), "token")


def test_the_token_of_the_project_goes_to_its_own_service_only(project, stopped_service):
    """A service that is named by hand gets the token of the environment, or none."""
    stopped_service.environment = {"IMGCACHE_TOKEN": "secret"}
    stopped_service.start()
    project.settings = "IMGCACHE_URL = 'http://127.0.0.1:9'\nIMGCACHE_TOKEN = 'secret'\n"
    assert_failed(project.run("stats", stopped_service.url), "token")
    assert project.run("stats", stopped_service.url, env={"IMGCACHE_TOKEN": "secret"}).stdout


def test_what_is_named_wins_over_the_project(project, tmp_path):
    """An argument wins over the environment, and that wins over the settings."""
    for count, name in enumerate(("settings", "environment", "argument"), 1):
        store(tmp_path / name, *(str(number).encode() for number in range(count)))
    project.settings = f"IMGCACHE_URL = {str(tmp_path / 'settings')!r}\n"
    environment = {"IMGCACHE_URL": str(tmp_path / "environment")}
    assert images_in(project.run("stats")) == 1
    assert images_in(project.run("stats", env=environment)) == 2
    done = project.run("stats", tmp_path / "argument", env=environment)
    assert images_in(done) == 3
    assert said(done) == [f"Cache: {tmp_path / 'argument'}"]


def test_outside_of_a_project_the_cache_is_in_the_current_folder(tmp_path):
    """It is `./imgcache`, and the spool is `.scrapy/imgcache-spool`."""
    store(tmp_path / "imgcache", b"one")
    done = run_imgcache(tmp_path, "stats")
    assert images_in(done) == 1
    assert said(done) == [f"Cache: {tmp_path / 'imgcache'}"]
    done = run_imgcache(tmp_path, "spool", "list")
    assert said(done) == [f"Spool: {tmp_path / '.scrapy' / 'imgcache-spool'}"]


def test_the_spool_is_that_of_the_project(project, tmp_path):
    """What its crawls put there is listed and stored; a named folder wins."""
    default = project.folder / ".scrapy" / "imgcache-spool"
    filled(Spool(default), 1)
    done = project.run("spool", "list")
    assert b"http://h.example/0.gif" in done.stdout
    assert said(done) == [f"Spool: {default} (of the Scrapy project {project.folder})"]
    project.settings = f"IMGCACHE_SPOOL_DIR = {str(tmp_path / 'other')!r}\n"
    filled(Spool(tmp_path / "other"), 2)
    store(project.folder / ".scrapy" / "imgcache")
    assert project.run("spool", "replay", env={"IMGCACHE_SPOOL_DIR": default}).stdout == (
        b"1 stored\n"
    )
    done = project.run("spool", "replay")
    assert done.stdout == b"2 stored\n"
    assert [line.partition(":")[0] for line in said(done)] == ["Cache", "Spool"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("IMGCACHE_URL = 'ftp://h'", ["IMGCACHE_URL must be http(s)://host"]),
        ("1 / 0", ["cannot be read", "ZeroDivisionError: division by zero"]),
        ("nonsense =", ["cannot be read", "SyntaxError"]),
        ("import nosuchmodule", ["cannot be read", "nosuchmodule"]),
        ("raise SystemExit('set\\nSHOP')", ["cannot be read", "set SHOP"]),
    ],
)
def test_broken_settings_are_one_sentence(project, settings, words):
    """It names the project, and the result is empty."""
    project.settings = settings
    done = project.run("stats")
    assert_failed(done, str(project.folder), *words)
    assert done.stdout == b""


def test_every_command_reports_broken_settings(project, tmp_path):
    """Only a cache that is named by hand needs no settings."""
    project.settings = "1 / 0"
    for command in (["verify"], ["spool", "list"], ["serve", "--port", "0"]):
        assert_failed(project.run(*command), str(project.folder), "division by zero")
    store(tmp_path / "named", b"one")
    assert images_in(project.run("stats", tmp_path / "named")) == 1


def test_a_broken_configuration_file_is_one_sentence(project):
    """What is wrong in `scrapy.cfg` is reported like what is wrong in the settings."""
    (project.folder / "scrapy.cfg").write_text("no section")
    assert_failed(project.run("stats"), str(project.folder), "scrapy.cfg")


def test_a_replaced_half_is_named_without_its_password(tmp_path):
    """A catalog or blobs elsewhere are reported by the names of their variables."""
    environment = {
        "IMGCACHE_DATABASE_URL": "postgresql+psycopg://me:secret@127.0.0.1:9/x",
        "IMGCACHE_BLOBS_URL": (tmp_path / "blobs").as_uri(),
    }
    done = run_imgcache(tmp_path, "stats", env=environment)
    assert said(done)[0] == ("Cache: catalog of IMGCACHE_DATABASE_URL, blobs of IMGCACHE_BLOBS_URL")
    del environment["IMGCACHE_BLOBS_URL"]
    done = run_imgcache(tmp_path, "stats", env=environment)
    assert said(done)[0] == f"Cache: {tmp_path / 'imgcache'}, catalog of IMGCACHE_DATABASE_URL"
    assert b"secret" not in done.stderr


def test_a_password_in_the_address_of_a_service_is_not_shown(tmp_path):
    """Only host, port and path are."""
    done = run_imgcache(tmp_path, "verify", "http://me:secret@127.0.0.1:9/cache?key=secret")
    assert said(done)[0] == "Cache: http://127.0.0.1:9/cache"
    assert b"secret" not in done.stderr


@pytest.mark.parametrize("is_inside", [True, False], ids=["project", "elsewhere"])
def test_no_command_makes_a_cache(project, tmp_path, is_inside):
    """Where there is none, a command says so."""
    folder = project.inside if is_inside else tmp_path
    for words in (["stats"], ["get", URL], ["verify"], ["gc"], ["spool", "replay"]):
        assert_failed(run_imgcache(folder, *words), "no cache")
    assert not list(tmp_path.rglob("imgcache"))
    assert [path.name for path in tmp_path.iterdir()] == ["project"]
