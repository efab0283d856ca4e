"""Look at the page of a service as a person does: `python tests/benchmarks/viewer.py URL`.

Every few seconds, the next screen of the grid is opened, with all its thumbnails; after the last
screen, the first one follows again.
"""

import re
import sys
import time
from contextlib import suppress
from html import unescape
from urllib.error import HTTPError
from urllib.request import urlopen

SECONDS = 5
"""How long a screen is looked at."""


def read(url: str) -> str:
    """Return the answer of a service; an empty text if it has none, such as a thumbnail."""
    with suppress(HTTPError), urlopen(url, timeout=60) as answer:
        return str(answer.read().decode("latin-1"))
    return ""


def main(service: str) -> None:
    """Look at one screen after another, until the process is ended."""
    path = "/"
    while True:
        start = time.monotonic()
        page = read(f"{service}{path}")
        for thumbnail in dict.fromkeys(re.findall(r'src="(/thumbnails/[^"]+)"', page)):
            read(f"{service}{thumbnail}")
        following = re.search(r'href="(/?\?[^"]*after=[^"]*)"', page)
        path = f"/{unescape(following[1]).lstrip('/')}" if following else "/"
        time.sleep(max(0, SECONDS - (time.monotonic() - start)))


if __name__ == "__main__":
    main(sys.argv[1])
