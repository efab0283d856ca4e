"""Which cache and which spool a command uses, and what it prints about them."""

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.client.spool import Spool
from tests.support.commands import assert_failed, run_imgcache
from tests.support.projects import Project
from tests.support.records import filled

URL = "http://h.example/a.png"


@pytest.fixture
def project(tmp_path):
    """Create a project without settings for the cache."""
    return Project(tmp_path / "project")


def image_count(done):
    """Return the number of images that `imgcache stats` printed."""
    assert done.returncode == 0, done.stderr.decode()
    (line,) = [line for line in done.stdout.decode().splitlines() if "images" in line]
    return int("".join(filter(str.isdigit, line)))


def store(address, *images, **options):
    """Store images in a cache."""
    with ImgCacheClient(str(address), **options) as client:
        for number, data in enumerate(images):
            client.store(f"http://h.example/{number}.png", data, "me")


def stderr_lines(done):
    """Return the lines on standard error."""
    return done.stderr.decode().splitlines()


def test_a_command_uses_the_cache_of_the_project(project):
    """In any folder below `scrapy.cfg` a command uses the cache in the project's data folder."""
    cache = project.folder / ".scrapy" / "imgcache"
    store(cache, b"one", b"two")
    for words in (["stats"], ["verify"], ["gc"]):
        done = project.run(*words)
        assert done.returncode == 0
        assert stderr_lines(done) == [f"Cache: {cache} (of the Scrapy project {project.folder})"]
    assert image_count(project.run("stats")) == 2


def test_a_command_uses_the_cache_of_the_settings(project, tmp_path):
    """A command uses IMGCACHE_URL of the settings; what the settings print is not in the result."""
    store(tmp_path / "elsewhere", b"one")
    project.settings = f"print('noise')\nIMGCACHE_URL = {str(tmp_path / 'elsewhere')!r}\n"
    done = project.run("get", "http://h.example/0.png")
    assert done.stdout == b"one"
    where = f"{tmp_path / 'elsewhere'} (of the Scrapy project {project.folder})"
    assert stderr_lines(done) == ["noise", f"Cache: {where}"]


def test_a_command_uses_the_token_and_the_bucket_of_the_project(project, stopped_service):
    """A command sees what the crawls see: the same service and the same bucket."""
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


def test_the_token_of_the_project_is_not_sent_to_another_service(project, stopped_service):
    """A service given as an argument gets the token of the environment, or none."""
    stopped_service.environment = {"IMGCACHE_TOKEN": "secret"}
    stopped_service.start()
    project.settings = "IMGCACHE_URL = 'http://127.0.0.1:9'\nIMGCACHE_TOKEN = 'secret'\n"
    assert_failed(project.run("stats", stopped_service.url), "token")
    assert project.run("stats", stopped_service.url, env={"IMGCACHE_TOKEN": "secret"}).stdout


def test_an_argument_overrides_environment_and_settings(project, tmp_path):
    """An argument overrides the environment, and the environment overrides the settings."""
    for count, name in enumerate(("settings", "environment", "argument"), 1):
        store(tmp_path / name, *(str(number).encode() for number in range(count)))
    project.settings = f"IMGCACHE_URL = {str(tmp_path / 'settings')!r}\n"
    environment = {"IMGCACHE_URL": str(tmp_path / "environment")}
    assert image_count(project.run("stats")) == 1
    assert image_count(project.run("stats", env=environment)) == 2
    done = project.run("stats", tmp_path / "argument", env=environment)
    assert image_count(done) == 3
    assert stderr_lines(done) == [f"Cache: {tmp_path / 'argument'}"]


def test_outside_of_a_project_the_cache_is_in_the_current_folder(tmp_path):
    """The default cache is `./imgcache`, the default spool `.scrapy/imgcache-spool`."""
    store(tmp_path / "imgcache", b"one")
    done = run_imgcache(tmp_path, "stats")
    assert image_count(done) == 1
    assert stderr_lines(done) == [f"Cache: {tmp_path / 'imgcache'}"]
    done = run_imgcache(tmp_path, "spool", "list")
    assert stderr_lines(done) == [f"Spool: {tmp_path / '.scrapy' / 'imgcache-spool'}"]


def test_a_command_uses_the_spool_of_the_project(project, tmp_path):
    """A command uses the project's spool; the settings and the environment can name another one."""
    default = project.folder / ".scrapy" / "imgcache-spool"
    filled(Spool(default), 1)
    done = project.run("spool", "list")
    assert b"http://h.example/0.gif" in done.stdout
    assert stderr_lines(done) == [f"Spool: {default} (of the Scrapy project {project.folder})"]
    project.settings = f"IMGCACHE_SPOOL_DIR = {str(tmp_path / 'other')!r}\n"
    filled(Spool(tmp_path / "other"), 2)
    (project.folder / ".scrapy" / "imgcache").mkdir()
    assert project.run("spool", "replay", env={"IMGCACHE_SPOOL_DIR": default}).stdout == (
        b"1 stored\n"
    )
    done = project.run("spool", "replay", "--json")
    assert done.stdout == b'{"stored": 2, "waiting": 0, "waiting_elsewhere": 0}\n'
    assert [line.partition(":")[0] for line in stderr_lines(done)] == ["Cache", "Spool"]


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
def test_broken_settings_are_reported_in_one_sentence(project, settings, words):
    """The sentence names the project, and standard output is empty."""
    project.settings = settings
    done = project.run("stats")
    assert_failed(done, str(project.folder), *words)
    assert done.stdout == b""


def test_every_command_reports_broken_settings(project, tmp_path):
    """A command needs no settings only if its argument names the cache."""
    project.settings = "1 / 0"
    for command in (["verify"], ["spool", "list"], ["serve", "--port", "0"]):
        assert_failed(project.run(*command), str(project.folder), "division by zero")
    store(tmp_path / "named", b"one")
    assert image_count(project.run("stats", tmp_path / "named")) == 1


def test_a_broken_scrapy_cfg_is_reported_in_one_sentence(project):
    """An error in `scrapy.cfg` is reported like an error in the settings."""
    (project.folder / "scrapy.cfg").write_text("no section")
    assert_failed(project.run("stats"), str(project.folder), "scrapy.cfg")


def test_a_replaced_catalog_is_printed_without_its_password(tmp_path):
    """A catalog or blobs from the environment are printed as names of variables."""
    environment = {
        "IMGCACHE_DATABASE_URL": "postgresql+psycopg://me:secret@127.0.0.1:9/x",
        "IMGCACHE_BLOBS_URL": (tmp_path / "blobs").as_uri(),
    }
    done = run_imgcache(tmp_path, "stats", env=environment)
    assert stderr_lines(done)[0] == (
        "Cache: catalog of IMGCACHE_DATABASE_URL, blobs of IMGCACHE_BLOBS_URL"
    )
    del environment["IMGCACHE_BLOBS_URL"]
    done = run_imgcache(tmp_path, "stats", env=environment)
    assert (
        stderr_lines(done)[0] == f"Cache: {tmp_path / 'imgcache'}, catalog of IMGCACHE_DATABASE_URL"
    )
    assert b"secret" not in done.stderr


def test_a_catalog_of_the_environment_that_is_missing_is_told(tmp_path):
    """The folder still has the blobs; its catalog is not the one that is missing."""
    store(tmp_path / "imgcache", b"a")
    environment = {"IMGCACHE_DATABASE_URL": f"sqlite:///{tmp_path}/none.sqlite3"}
    done = run_imgcache(tmp_path, "stats", env=environment)
    assert_failed(done, "IMGCACHE_DATABASE_URL names a catalog that does not exist")


def test_a_password_in_an_address_is_not_printed(tmp_path):
    """Only host, port and path of the address are printed."""
    done = run_imgcache(tmp_path, "verify", "http://me:secret@127.0.0.1:9/cache?key=secret")
    assert stderr_lines(done)[0] == "Cache: http://127.0.0.1:9/cache"
    assert b"secret" not in done.stderr


@pytest.mark.parametrize("is_inside", [True, False], ids=["project", "elsewhere"])
def test_no_command_creates_a_cache(project, tmp_path, is_inside):
    """Commands fail where there is no cache, and create none."""
    folder = project.inside if is_inside else tmp_path
    for words in (["stats"], ["get", URL], ["verify"], ["gc"], ["spool", "replay"]):
        assert_failed(run_imgcache(folder, *words), "no cache")
    assert not list(tmp_path.rglob("imgcache"))
    assert [path.name for path in tmp_path.iterdir()] == ["project"]


def test_links_in_a_circle_are_no_cache(run, tmp_path):
    """A folder that leads to itself is one sentence, for commands that read and that write."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for words in (["stats", loop], ["verify", loop], ["fetch", "http://h.test/", "--cache", loop]):
        done = run(*words)
        assert_failed(done, str(loop))
        assert b"Traceback" not in done.stderr
