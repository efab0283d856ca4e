"""A shop for the cookbook: a site with pictures, and a Scrapy project that crawls it."""

import ast
import json
import shlex
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.engine.catalog.rows import today
from tests.support.commands import MAIN, Command
from tests.support.originals import Original
from tests.support.pictures import jpeg
from tests.support.readme import CLIENT_FOLDER, Job
from tests.support.site import Site, respond

NAMES = ("1.jpg", "2.jpg")
SIZE = (160, 120)
_SCRAPY = "import sys; from scrapy.cmdline import execute; execute(['scrapy', *sys.argv[1:]])"
_ANY_PROGRAM = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
_SETTINGS = """
BOT_NAME = "shop"
SPIDER_MODULES = ["shop.spiders"]
FEEDS = {"%(name)s.jsonl": {"format": "jsonlines", "overwrite": True}}
TELNETCONSOLE_ENABLED = False
RETRY_ENABLED = False
"""
_ADDON = 'ADDONS = {"imgcache_scrapy.Addon": 500}'
_SPIDERS = """
import scrapy
from imgcache_scrapy import get_client


class Shop(scrapy.Spider):
    name = "shop"
    start_urls = ["%(site)s/"]

    %(define)s parse(self, response):
        urls = [response.urljoin(each) for each in response.css("img::attr(src)").getall()]
        known = []
        %(line)s
        item = {"sku": "s5", "page_url": response.url, "image_urls": urls}
        yield item | {"known": sorted(known)}


class Outlet(Shop):
    name = "outlet"
"""


class Shop:
    """A site with a page of pictures, and a Scrapy project in whose folder commands run.

    Args:
        home: the folder of everything.
        site: the site of another shop; None for a new one.

    Attributes:
        home: the folder of everything.
        project: the folder of the project.
        cache: the folder of its cache.
        site: the site.
        originals: the answers for the pictures, by name.
        replaced: what the lines of the README contain, and what the test has instead.
    """

    def __init__(self, home: Path, site: Site | None = None) -> None:
        self.home = home
        self.project = home / "project"
        self.cache = self.project / CLIENT_FOLDER
        self.site = site or Site()
        self.originals = {name: Original(jpeg(seed, SIZE)) for seed, name in enumerate(NAMES, 1)}
        self.site.answers |= {f"/{name}": each for name, each in self.originals.items()}
        self.show(*NAMES)
        host = self.site.url.partition("//")[2].partition(":")[0]
        self.replaced = {
            "https://shop.example": self.site.url,
            "shop.example": host,
            "/srv/": f"{home}/",
            "/backups/": f"{home}/",
        }
        (self.project / "shop").mkdir(parents=True)
        (self.project / "scrapy.cfg").write_text("[settings]\ndefault = shop.settings\n")
        (self.project / "shop" / "__init__.py").touch()
        self.write_settings()
        self.write_spiders()

    @property
    def url(self) -> str:
        """The URL of the first picture."""
        return f"{self.site.url}/{NAMES[0]}"

    @property
    def asked(self) -> int:
        """The number of requests for pictures so far."""
        return self.site.images_asked().total()

    def show(self, *names: str) -> None:
        """Make the page of the site show these pictures."""
        page = "".join(f'<img src="/{name}">' for name in names).encode()
        self.site.answers["/"] = lambda to: respond(to, page, content_type="text/html")

    def store(self, days: dict[str, float]) -> None:
        """Store pictures, by their names, as they were fetched some days ago."""
        with self.client() as client:
            for name, age in days.items():
                original, fetched = self.originals[name], datetime.now(UTC) - timedelta(days=age)
                url, headers = f"{self.site.url}/{name}", {"ETag": original.etag}
                client.store(url, original.body, "shop", fetched, headers=headers)

    def set_last_use(self, name: str, *, days: int) -> None:
        """Set the last use of a picture to some days ago."""
        its_hash = content_hash_of(self.originals[name].body)
        values = today() - days, its_hash
        with closing(sqlite3.connect(self.cache / "catalog.sqlite3")) as catalog, catalog:
            catalog.execute("UPDATE image SET last_used = ? WHERE content_hash = ?", values)

    def write_settings(self, job: Job | None = None, more: str = "", *, addon: bool = True) -> None:
        """Write the settings of the project, with the lines of a job."""
        lines = [] if job is None else self._lines(job)
        text = "\n".join([_SETTINGS, _ADDON if addon else "", more, *lines, ""])
        (self.project / "shop" / "settings.py").write_text(text)

    def write_spiders(self, job: Job | None = None, define: str = "def") -> None:
        """Write the spiders of the project, with the line of a job in their callback."""
        line = "" if job is None else "\n".join(self._lines(job))
        values = {"site": self.site.url, "define": define, "line": line}
        (self.project / "shop" / "spiders.py").write_text(_SPIDERS % values)

    def start_crawl(self, *options: str, spider: str = "shop") -> Command:
        """Start `scrapy crawl`."""
        return Command(self.project, "crawl", spider, *options, code=_SCRAPY)

    def crawl(self, *options: str, spider: str = "shop") -> dict[str, Any]:
        """Run `scrapy crawl`, and return its item."""
        done = self.start_crawl(*options, spider=spider).result()
        assert done.returncode == 0, done.stderr.decode()
        return self.item(spider)

    def item(self, spider: str) -> dict[str, Any]:
        """Return the only item that a spider gave last."""
        (line,) = (self.project / f"{spider}.jsonl").read_text().splitlines()
        return json.loads(line)

    def shell(self, job: Job, stdin: str = "") -> str:
        """Run the lines of a job in the folder of the project, and return what they print."""
        outputs = []
        for line in self._lines(job):
            programs = [shlex.split(each) for each in line.removesuffix(" & wait").split(" & ")]
            for running in [self._start(words, stdin) for words in programs]:
                done = running.result()
                assert done.returncode == 0, done.stderr.decode()
                outputs.append(done.stdout.decode())
        return "".join(outputs)

    def _start(self, words: list[str], stdin: str) -> Command:
        # A shell would start them much more slowly than a fork.
        code = {"imgcache": MAIN, "scrapy": _SCRAPY}.get(words[0])
        arguments = words if code is None else words[1:]
        return Command(self.project, *arguments, stdin=stdin, code=code or _ANY_PROGRAM)

    def script(self, job: Job, **names: Any) -> Any:
        """Run the lines of a job, and return the value of the last one.

        `client` is a client of the project's cache, and `url` the URL of the first picture.
        """
        tree = ast.parse("\n".join(self._lines(job)))
        last = tree.body[-1]
        if isinstance(last, ast.Expr):
            tree.body[-1] = ast.copy_location(
                ast.Assign([ast.Name("result", ast.Store())], last.value), last
            )
        ast.fix_missing_locations(tree)
        with self.client() as client:
            values = {"client": client, "url": self.url, **names}
            exec(compile(tree, "README.md", "exec"), values)
        return values[ast.unparse(tree.body[-1].targets[0])]

    def client(self, folder: Path | None = None) -> ImgCacheClient:
        """Open a client of the project's cache, or of another one."""
        return ImgCacheClient(str(folder or self.cache))

    def close(self) -> None:
        """Stop the site."""
        self.site.close()

    def _lines(self, job: Job) -> list[str]:
        lines = job.lines
        for theirs, ours in self.replaced.items():
            lines = [line.replace(theirs, ours) for line in lines]
        return lines
