"""The screenshots of the README are made by a command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support.browser import needs_chromium
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[3]


@pytest.mark.endurance
@needs_chromium
def test_the_screenshots_are_made(tmp_path):
    """The command crawls the example project, and takes a picture of the grid and of a picture."""
    command = [sys.executable, ROOT / ".ci" / "screenshots.py", tmp_path]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, timeout=PATIENCE, env=environment)
    for name in ("grid.jpg", "picture.jpg"):
        with (
            Image.open(tmp_path / name) as made,
            Image.open(ROOT / ".github" / "screenshots" / name) as kept,
        ):
            assert made.size == kept.size == (1920, 1200)
