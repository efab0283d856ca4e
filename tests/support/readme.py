"""The README: its text, its blocks of Python, and the jobs of its cookbook."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()
CLIENT_FOLDER = re.search(r'`client = ImgCacheClient\("(.*?)"\)`', README)[1]
"""The folder of the cache in the scripts of the cookbook."""
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


class Job(NamedTuple):
    """A row of the cookbook.

    Attributes:
        question: what a user wants to do.
        place: where the lines belong: `settings`, `shell`, `script` or `callback`.
        lines: the lines that do it.
    """

    question: str
    place: str
    lines: list[str]


def _jobs() -> dict[str, Job]:
    table = README.partition("| How do I … |")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return {
        question.rstrip("?"): Job(question.rstrip("?"), place, re.findall("`(.*?)`", lines))
        for question, place, lines in rows
    }


JOBS = _jobs()
"""The jobs of the cookbook by their question, without its mark."""


def does(question: str) -> pytest.MarkDecorator:
    """Give a test the job of the cookbook with this question."""
    return pytest.mark.parametrize("job", [JOBS[question]], ids=["README"])
