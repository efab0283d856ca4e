"""Compare crawls with the cache with crawls of plain Scrapy: `python tests/benchmarks/crawl.py`.

Measure cold and warm runs of every set-up, interleaved, and print the medians of the rounds with
ratios to Scrapy's ImagesPipeline. `--json` and `--plot` write the figures and a bar chart.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.services import cpu_seconds, fill, service

HERE = Path(__file__).parent
IMAGES_PER_PAGE = 5
IMAGES = {"ITEM_PIPELINES": {"scrapy.pipelines.images.ImagesPipeline": 1}}
FILES = {"ITEM_PIPELINES": {"scrapy.pipelines.files.FilesPipeline": 1}}
MIDDLEWARE = {"DOWNLOADER_MIDDLEWARES": {"imgcache_scrapy.ImgCacheMiddleware": 585}}


@dataclass(frozen=True)
class SetUp:
    """A crawl to compare.

    Attributes:
        name: name in the table.
        settings: settings of the crawl.
        forgets: folders to remove before the warm run, so that it has to fetch again.
        served: whether the cache is a service.
        viewed: whether somebody looks at the page of the service during the crawl.
    """

    name: str
    settings: dict[str, Any]
    forgets: tuple[str, ...] = ()
    served: bool = False
    viewed: bool = False


def ours(pipeline: str) -> dict[str, Any]:
    """Return settings with one of our pipelines."""
    return {"ITEM_PIPELINES": {f"imgcache_scrapy.{pipeline}": 1}}


# Set-ups that are compared run one after the other; those that write all files again run last.
SET_UPS = [
    SetUp("pages only", {}),
    SetUp("ImagesPipeline", IMAGES),
    SetUp("FilesPipeline", FILES),
    SetUp("ours", ours("ImgCachePipeline")),
    SetUp("ours, provenance", ours("ImgCachePipeline") | {"IMGCACHE_PROVENANCE": True}),
    SetUp("ours, service", ours("ImgCachePipeline"), served=True),
    SetUp("ours, service, page open", ours("ImgCachePipeline"), served=True, viewed=True),
    SetUp("ours, files", ours("ImgCacheFilesPipeline")),
    SetUp("ours, images", ours("ImgCacheImagesPipeline")),
    SetUp("ours, images, files gone", ours("ImgCacheImagesPipeline"), ("images",)),
    SetUp("ours, middleware + ImagesPipeline", MIDDLEWARE | IMAGES, ("images",)),
    SetUp("ImagesPipeline + HttpCache", IMAGES | {"HTTPCACHE_ENABLED": True}, ("images",)),
]
PEER = "ImagesPipeline"


@dataclass
class Figures:
    """The measurements of one set-up.

    Attributes:
        values: a list per figure with one value per round.
        lags: delays of the event loop in seconds, of all rounds, because one round may have too few
            for a percentile.
    """

    values: dict[str, list[float]] = field(default_factory=dict)
    lags: list[float] = field(default_factory=list)

    def add(self, measured: dict[str, Any]) -> None:
        """Add the measurements of a round."""
        self.lags += measured.pop("lags")
        for name, value in measured.items():
            self.values.setdefault(name, []).append(value)
        self.values["lag"] = [1000 * quantiles(self.lags, n=100)[-1]]
        self.values["samples"] = [len(self.lags)]

    def median(self, name: str) -> float:
        """Return the median of a figure over the rounds."""
        return median(self.values[name])


@contextmanager
def origin() -> Iterator[str]:
    """Run the site to crawl."""
    process = subprocess.Popen([sys.executable, HERE / "origin.py"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def viewer(url: str) -> Iterator[None]:
    """Look at the page of a service."""
    process = subprocess.Popen([sys.executable, HERE / "viewer.py", url])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measure(set_up: SetUp, site: str, pages: int, folder: Path) -> dict[str, Any]:
    """Run one crawl, and return its measurements."""
    with ExitStack() as stack:
        settings = set_up.settings | {
            "IMGCACHE_URL": str(folder / "cache"),
            "IMAGES_STORE": str(folder / "images"),
            "FILES_STORE": str(folder / "files"),
            "HTTPCACHE_DIR": str(folder / "httpcache"),
        }
        pid = None
        if set_up.served:
            settings["IMGCACHE_URL"], pid = stack.enter_context(service(folder))
        if set_up.viewed:
            stack.enter_context(viewer(settings["IMGCACHE_URL"]))
        used = cpu_seconds(pid) if pid else 0.0
        config = {"settings": settings, "origin": site, "pages": pages, "only": None}
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, HERE / "one_crawl.py"],
            input=json.dumps(config).encode(),
            stdout=subprocess.PIPE,
            cwd=folder,
            check=True,
        )
        whole = time.perf_counter() - start
        measured: dict[str, Any] = json.loads(done.stdout) | {"whole": whole}
        if pid:
            measured["cpu"] += cpu_seconds(pid) - used
        return measured


def run(
    images: int, rounds: int, names: list[str], captures: int = 0
) -> dict[str, dict[str, Figures]]:
    """Measure every set-up, cold and warm, interleaved."""
    chosen = [set_up for set_up in SET_UPS if not names or set_up.name in names]
    figures = {set_up.name: {"cold": Figures(), "warm": Figures()} for set_up in chosen}
    # Nothing is deleted before the end, because ext4 allocates slowly after many deletions.
    with origin() as site, tempfile.TemporaryDirectory() as temporary:
        for number in range(rounds):
            folders = {each.name: new_folder(temporary, captures) for each in chosen}
            # All cold runs come first, because the machine's speed may change within minutes.
            # Reading the files puts them into the system's cache again.
            for run_name in ("cold", "warm"):
                for set_up in chosen:
                    folder = folders[set_up.name]
                    read_all(folder)
                    measured = measure(set_up, site, images // IMAGES_PER_PAGE, folder)
                    figures[set_up.name][run_name].add(measured)
                    for forgotten in set_up.forgets:
                        (folder / forgotten).rename(tempfile.mkdtemp(dir=temporary))
                    sys.stderr.write(f"round {number + 1}, {run_name}: {set_up.name}\n")
    return figures


def new_folder(parent: str, captures: int) -> Path:
    """Create the folder of a set-up, with a catalog of this number of captures of other sites."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    if captures:
        (folder / "cache").mkdir()
        cache = folder / "cache"
        fill(f"sqlite:///{cache / 'catalog.sqlite3'}", (cache / "blobs").as_uri(), captures)
    return folder


def read_all(folder: Path) -> None:
    """Read all files of a folder, so that the system caches them."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.read_bytes()


COLUMNS = [
    ("crawl", "crawl s", "{:.2f}"),
    ("whole", "whole s", "{:.2f}"),
    ("cpu", "CPU s", "{:.2f}"),
    ("memory", "peak MB", "{:.0f}"),
    ("lag", "lag p99 ms", "{:.1f}"),
    ("samples", "of samples", "{:.0f}"),
]


def table(figures: dict[str, dict[str, Figures]]) -> str:
    """Return the medians as text, with ratios of crawl and process times to ImagesPipeline."""
    head = ["", "run", *(title for _, title, _ in COLUMNS), "crawl ratio", "whole ratio"]
    rows = [head]
    for name, runs in figures.items():
        for run_name, measured in runs.items():
            row = [name, run_name]
            row += [form.format(measured.median(key)) for key, _, form in COLUMNS]
            for key in ("crawl", "whole"):
                peer = figures.get(PEER, runs)[run_name].median(key)
                row.append(f"{measured.median(key) / peer:.2f}")
            rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(
            c.ljust(w) if i < 2 else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def plot(figures: dict[str, dict[str, Figures]], path: Path) -> None:
    """Draw the crawl times, cold and warm."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(figures)
    figure, axes = plt.subplots(figsize=(9, 0.45 * len(names) + 1.2))
    for offset, (run_name, color) in enumerate((("cold", "#3b6ea5"), ("warm", "#e08e45"))):
        seconds = [figures[name][run_name].median("crawl") for name in names]
        places = [index + 0.4 * offset - 0.2 for index in range(len(names))]
        bars = axes.barh(places, seconds, height=0.38, color=color, label=run_name)
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("seconds from spider opened to closed")
    axes.legend()
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> str:
    """Measure the crawls, print the table and return it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", default=[], metavar="SET-UP")
    parser.add_argument("--captures", type=int, default=0, help="captures before the cold crawl")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args(arguments)
    figures = run(options.images, options.rounds, options.only, options.captures)
    if options.json:
        results = {n: {r: f.values for r, f in runs.items()} for n, runs in figures.items()}
        options.json.write_text(json.dumps(results, indent=1))
    if options.plot:
        plot(figures, options.plot)
    text = f"{options.images} images, medians of {options.rounds} rounds\n\n{table(figures)}\n"
    sys.stdout.write(text)
    return text


if __name__ == "__main__":
    main()
