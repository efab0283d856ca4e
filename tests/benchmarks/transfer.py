"""Measure imports, exports and copies against plain loops: `python tests/benchmarks/transfer.py`.

The loop beside an import reads, hashes and decodes the same files with Pillow; the one beside an
export and a copy reads, hashes and writes them. Unlike the loop, a copy syncs each file to disk.
The ratio is the rate of the command to that of the loop; the median of the rounds counts.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from statistics import median

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from imgcache_scrapy.cli.transfer.copying import copy_images
from imgcache_scrapy.cli.transfer.exporting import FORMATS, Export, export_images
from imgcache_scrapy.cli.transfer.importing import Import, import_images
from imgcache_scrapy.core.entry import content_hash_of
from tests.benchmarks.origin import numbered, photograph


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def decode_all(folder: Path) -> None:
    """Read, hash and decode the files of a folder."""
    for path in folder.iterdir():
        data = path.read_bytes()
        content_hash_of(data)
        Image.open(BytesIO(data)).load()


def copy_all(blobs: Path, folder: Path) -> None:
    """Read, hash and write the blobs of a cache."""
    folder.mkdir()
    for path in blobs.glob("??/*"):
        data = path.read_bytes()
        (folder / content_hash_of(data)).write_bytes(data)


def one_round(folder: Path, pictures: Path) -> dict[str, float]:
    """Measure everything once.

    Returns:
        The seconds of each work.
    """
    cache = folder / "cache"
    what = Import(pictures)
    found = {
        "loop: read, hash, decode": seconds(lambda: decode_all(pictures)),
        "import": seconds(lambda: import_images(str(cache), what)),
        "import again": seconds(lambda: import_images(str(cache), what)),
        "loop: read, hash, write": seconds(lambda: copy_all(cache / "blobs", folder / "copies")),
    }
    for name in FORMATS:
        export = Export(folder / name, name)
        found[f"export {name}"] = seconds(lambda export=export: export_images(str(cache), export))
    for name in ("copy", "copy again"):
        found[name] = seconds(lambda: copy_images(str(cache), str(folder / "copy")))
    return found


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as temporary:
        pictures = Path(temporary, "pictures")
        pictures.mkdir()
        picture = photograph(1, (800, 600), 77)
        for number in range(options.images):
            (pictures / f"{number}.jpg").write_bytes(numbered(picture, number))
        for number in range(options.rounds):
            folder = Path(temporary, f"round-{number}")
            folder.mkdir()
            rounds.append(one_round(folder, pictures))
            shutil.rmtree(folder)
    rates = {name: options.images / median(each[name] for each in rounds) for name in rounds[0]}
    for name, rate in rates.items():
        loop = "loop: read, hash, decode" if "import" in name else "loop: read, hash, write"
        ratio = "" if name.startswith("loop") else f"{rate / rates[loop]:8.2f}"
        sys.stdout.write(f"{name:<28}{rate:>10,.0f} images/s{ratio}\n")
    if options.json is not None:
        options.json.write_text(json.dumps(rates))


if __name__ == "__main__":
    main()
