"""Settings: the ones that work, and the sentence with which a wrong one stops the crawl."""

import pytest
from scrapy.settings import BaseSettings

from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.failures import DEFAULT_SECONDS
from imgcache_scrapy.plugin.settings import Settings
from tests.support.pictures import jpeg

PIPELINE = {"ITEM_PIPELINES": {"imgcache_scrapy.ImgCachePipeline": 1}}
MIDDLEWARE = {"DOWNLOADER_MIDDLEWARES": {"imgcache_scrapy.ImgCacheMiddleware": 585}}
SELECT = {"TWISTED_REACTOR": "twisted.internet.selectreactor.SelectReactor"}
STORES = {"FILES_STORE": "files", "IMAGES_STORE": "images"}
IMAGES = {
    "ITEM_PIPELINES": {"scrapy.pipelines.images.ImagesPipeline": 1},
    "IMAGES_STORE": "images",
}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"IMGCACHE_TIMEOUT": "soon"}, "IMGCACHE_TIMEOUT must be a number of seconds"),
        ({"IMGCACHE_TIMEOUT": 0}, "IMGCACHE_TIMEOUT must be a number of seconds"),
        ({"IMGCACHE_URL": "ftp://cache"}, "IMGCACHE_URL must be http(s)://host"),
        ({"IMGCACHE_URL": "http://cache:abc"}, "IMGCACHE_URL must be http(s)://host"),
        ({"IMGCACHE_URL": "http://cache:99999"}, "IMGCACHE_URL must be http(s)://host"),
        ({"IMGCACHE_URL": "file://relative/x"}, "IMGCACHE_URL must be http(s)://host"),
        ({"IMGCACHE_URL": "/proc/nothing/x"}, "a cache cannot be created in /proc/nothing/x"),
        ({"IMGCACHE_URL": "~no-such-user/x"}, "the home folder in '~no-such-user/x' is not known"),
        ({"IMGCACHE_SPOOL_DIR": "~no-such-user"}, "IMGCACHE_SPOOL_DIR must be a folder"),
        ({"IMGCACHE_MIN_WIDTH": -1}, "IMGCACHE_MIN_WIDTH must be a number of pixels"),
        ({"IMGCACHE_RESULT_FIELD": ""}, "IMGCACHE_RESULT_FIELD must be the name of a field"),
        ({"IMGCACHE_ENABLED": "maybe"}, "IMGCACHE_ENABLED must be True or False"),
        ({"IMGCACHE_ENABLED": False}, "remove it from ITEM_PIPELINES"),
        ({"IMGCACHE_MAX_AGE": -1}, "IMGCACHE_MAX_AGE must be a number of seconds, 0 or more, or"),
        ({"IMGCACHE_MAX_AGE": {"a/b": 1}}, "('a/b' is not a host: write example.com"),
        ({"IMGCACHE_MAX_AGE": {"a.b": "x"}}, "(the age for 'a.b' is 'x', not a number"),
        ({"IMGCACHE_MODE": "online"}, "IMGCACHE_MODE must be 'normal' or 'refresh' or 'offline'"),
        ({"IMGCACHE_ON_GONE": ["stale"]}, "IMGCACHE_ON_GONE must be 'fail' or 'stale'"),
        ({"IMGCACHE_RETRY_FAILED": "maybe"}, "IMGCACHE_RETRY_FAILED must be True or False"),
        ({"IMGCACHE_REMEMBER_FAILURES": {"html": 5}}, "'html' is no reason that can be remembered"),
        ({"IMGCACHE_REMEMBER_FAILURES": "maybe"}, "must be True, False or a dict of reasons"),
        ({"IMGCACHE_BUCKET": 7}, "IMGCACHE_BUCKET must be a string"),
        ({"IMGCACHE_KEY_PRESETS": ["s4"]}, "no preset 's4': the presets are s3, cloudfront"),
        ({"IMGCACHE_PATHS_FIELD": ""}, "IMGCACHE_PATHS_FIELD must be the name of a field"),
        ({"IMGCACHE_DROP_EMPTY": "maybe"}, "IMGCACHE_DROP_EMPTY must be True or False"),
        ({"IMGCACHE_PATH": "{sku}.{ext}"}, "IMGCACHE_PATH must be a template of a path"),
        ({"IMGCACHE_PATH": "{item.__class__}"}, "{item.__class__} is not known"),
        ({"IMGCACHE_PATH": "{index:999999999}"}, "{index} has a format"),
        ({"IMGCACHE_PATH": "../{item[sku]}"}, "a path is relative"),
    ],
)
def test_a_wrong_setting_stops_the_crawl(site, crawl, settings, sentence):
    """The last line of the log names the setting and says what it must be."""
    done = crawl([{"image_urls": [f"{site.url}/a.jpg"]}], PIPELINE | settings)
    assert sentence in done.log.strip().splitlines()[-1]
    assert done.items == []
    assert site.asked.total() == 0


@pytest.mark.parametrize(
    ("name", "value", "cause"),
    [
        ("IMGCACHE_MODE", "online", type(None)),
        ("IMGCACHE_URL", "ftp://cache", type(None)),
        ("IMGCACHE_REMEMBER_FAILURES", {"html": 5}, type(None)),
        ("IMGCACHE_KEY_FUNCTION", "no_shop.key", ModuleNotFoundError),
    ],
)
def test_only_an_error_in_the_project_is_shown_as_the_cause(name, value, cause):
    """It says where a module fails; the traceback of a check only hides the sentence."""
    with pytest.raises(ConfigurationError, match=f"{name} must be") as raised:
        Settings.from_settings(BaseSettings({name: value}))
    assert isinstance(raised.value.__cause__, cause)
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("IMGCACHE_MAXAGE", "; do you mean IMGCACHE_MAX_AGE?"),
        ("IMGCACHE_DATABASE_URL", ""),
    ],
)
def test_a_name_that_is_no_setting_gives_a_warning(caplog, name, hint):
    """The warning says which setting has nearly this name; other settings give none."""
    values = {"IMGCACHE_URL": "cache", "IMGCACHE_MAX_AGE": None, "IMAGES_STOR": 1, name: 5}
    Settings.from_settings(BaseSettings(values))
    (record,) = caplog.records
    sentence = f"{name} is no setting of imgcache-scrapy, so it is ignored{hint}"
    assert (record.levelname, record.getMessage()) == ("WARNING", sentence)


@pytest.mark.parametrize(
    ("pipeline", "name", "instead"),
    [
        ("ImgCachePipeline", "PATH", "ImgCacheImagesPipeline write files"),
        ("ImgCacheImagesPipeline", "URLS_FIELD", "set IMAGES_URLS_FIELD"),
        ("ImgCacheImagesPipeline", "MIN_WIDTH", "set IMAGES_MIN_WIDTH"),
        ("ImgCacheFilesPipeline", "RESULT_FIELD", "set FILES_RESULT_FIELD"),
        ("ImgCacheFilesPipeline", "MIN_HEIGHT", "IMAGES_MIN_HEIGHT"),
    ],
)
def test_a_setting_that_the_pipeline_ignores_gives_a_warning(crawl, pipeline, name, instead):
    """The warning says what to do; without the setting there is none."""
    settings = {"ITEM_PIPELINES": {f"imgcache_scrapy.{pipeline}": 1}} | STORES
    value = "{item[sku]}.{ext}" if name == "PATH" else 1 if name.startswith("MIN") else "pictures"
    assert crawl([], settings).warnings == []
    (warning,) = crawl([], settings | {f"IMGCACHE_{name}": value}).warnings
    assert f"IMGCACHE_{name} is ignored by {pipeline}: " in warning
    assert instead in warning


def test_the_spool_may_be_in_the_home_folder(tmp_path, monkeypatch):
    """`~` stands for it, as in the address of a cache."""
    monkeypatch.setenv("HOME", str(tmp_path))
    values = {"IMGCACHE_URL": "~/images", "IMGCACHE_SPOOL_DIR": "~/waiting"}
    assert Settings.from_settings(BaseSettings(values)).spool_dir == tmp_path / "waiting"


def test_a_drop_in_without_a_store_stops_the_crawl(site, crawl):
    """Scrapy would only disable the drop-in and deliver items without their files."""
    settings = {"ITEM_PIPELINES": {"imgcache_scrapy.ImgCacheFilesPipeline": 1}}
    done = crawl([{"file_urls": [f"{site.url}/a.jpg"]}], settings)
    assert "FILES_STORE setting must be set" in done.log.strip().splitlines()[-1]
    assert done.items == []


def test_another_reactor_stops_a_crawl_with_the_pipeline(site, crawl):
    """The last line of the log says which reactor to use."""
    done = crawl([{"image_urls": [f"{site.url}/a.jpg"]}], PIPELINE | SELECT)
    assert "imgcache-scrapy needs asyncio" in done.log.strip().splitlines()[-1]
    assert done.items == []


def test_another_reactor_disables_the_middleware(site, crawl):
    """The crawl goes on without the middleware, which would only make it faster."""
    site.answers["/a.jpg"] = jpeg(1)
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    done = crawl(items, MIDDLEWARE | IMAGES | SELECT)
    assert "imgcache-scrapy needs asyncio" in done.log
    assert len(done.items[0]["images"]) == 1


@pytest.mark.parametrize("settings", [PIPELINE, {"ADDONS": {"imgcache_scrapy.Addon": 500}}])
def test_crawls_work_without_a_reactor(site, crawl, settings):
    """With TWISTED_REACTOR_ENABLED False, one crawl stores the image and the next one hits."""
    site.answers["/a.jpg"] = jpeg(1)
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    reactorless = settings | {"TWISTED_REACTOR_ENABLED": False}
    assert crawl(items, reactorless).fates == {"stored": 1}
    assert crawl(items, reactorless).fates == {"hit": 1}


def test_the_environment_can_set_the_address(site, crawl, tmp_path):
    """IMGCACHE_URL in the environment is used if the setting is missing."""
    site.answers["/a.jpg"] = jpeg(1)
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    elsewhere = {"IMGCACHE_URL": str(tmp_path / "elsewhere")}
    crawl(items, PIPELINE | {"IMGCACHE_URL": None}, environment=elsewhere)
    assert (tmp_path / "elsewhere" / "catalog.sqlite3").exists()


def test_the_default_is_in_the_projects_data_folder(site, crawl, tmp_path):
    """Without an address, the cache is in `.scrapy/imgcache`."""
    site.answers["/a.jpg"] = jpeg(1)
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    crawl(items, PIPELINE | {"IMGCACHE_URL": None})
    assert (tmp_path / ".scrapy" / "imgcache" / "catalog.sqlite3").exists()


def test_a_crawl_without_a_project_needs_an_address(site, crawl, tmp_path):
    """Without scrapy.cfg, as in a container, a crawl with an address works; another one stops."""
    site.answers["/a.jpg"] = jpeg(1)
    (tmp_path / "bare.py").write_text("")
    bare = {"SCRAPY_SETTINGS_MODULE": "bare", "PYTHONPATH": str(tmp_path)}
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    assert crawl(items, PIPELINE, environment=bare).fates == {"stored": 1}
    done = crawl(items, PIPELINE | {"IMGCACHE_URL": None}, environment=bare)
    assert "set IMGCACHE_URL" in done.log.strip().splitlines()[-1]


@pytest.mark.parametrize("source", ["setting", "environment", "neither"])
def test_the_token_is_sent_to_the_service(site, crawl, stopped_service, source):
    """IMGCACHE_TOKEN is a setting or in the environment; without it the crawl stops."""
    stopped_service.environment = {"IMGCACHE_TOKEN": "the-right-one"}
    stopped_service.start()
    site.answers["/a.jpg"] = jpeg(1)
    settings = PIPELINE | {"IMGCACHE_URL": stopped_service.url}
    environment = {"IMGCACHE_TOKEN": "the-right-one" if source == "environment" else ""}
    if source == "setting":
        settings["IMGCACHE_TOKEN"] = "the-right-one"
    items = [{"image_urls": [f"{site.url}/a.jpg"]}]
    first, second = (crawl(items, settings, environment=environment) for _ in range(2))
    if source == "neither":
        assert first.fates == {}
        assert first.stats["imgcache/error/unauthorized"] >= 1
    else:
        assert (first.fates, second.fates) == ({"stored": 1}, {"hit": 1})
    assert "the-right-one" not in first.log + second.log


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, DEFAULT_SECONDS),
        ("1", DEFAULT_SECONDS),
        (False, None),
        ("False", None),
        ({"dns": 60}, {**DEFAULT_SECONDS, "dns": 60}),
        ('{"dns": 60, "http_404": 0}', {**DEFAULT_SECONDS, "dns": 60, "http_404": 0}),
    ],
    ids=str,
)
def test_remembered_failures_are_set_by_a_flag_or_a_dict(value, expected):
    """On the command line, the dict is a text of JSON."""
    settings = Settings.from_settings(BaseSettings({"IMGCACHE_REMEMBER_FAILURES": value}))
    assert settings.remember_failures == expected
