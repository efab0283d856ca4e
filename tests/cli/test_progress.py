"""The progress of long work: a bar on a terminal, lines in a log; interruptions."""

import json
import os
import pty
import signal
import subprocess

import pytest

from imgcache_scrapy.cli import progress as module
from imgcache_scrapy.cli.progress import progress
from tests.support.commands import IMGCACHE, clean_environment
from tests.support.pictures import picture
from tests.support.programs import blob_files
from tests.support.waiting import PATIENCE, wait_until


@pytest.fixture
def pictures(tmp_path):
    """Return a folder with pictures, and a file that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(800):
        (folder / f"{seed}.png").write_bytes(picture(seed, 4))
    (folder / "notes.txt").write_bytes(b"no picture")
    return folder


def start(tmp_path, *words, stderr=subprocess.PIPE):
    """Start a command, which SIGINT interrupts even if it is ignored here, as in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [IMGCACHE, *map(str, words)],
            cwd=tmp_path,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def test_lines_in_a_log(monkeypatch, capsys):
    """Without a terminal, there is a line from time to time, on standard error."""
    monkeypatch.setattr(module, "_SECONDS", 0)
    with progress("Importing") as shown:
        shown.advance(1)
        shown.set_total(3000)
        shown.advance(1999)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "Importing: 1\nImporting: 2,000 of 3,000\n")


def test_a_bar_on_a_terminal(tmp_path, pictures):
    """Problems are above the bar, and standard output has the result alone."""
    for path in list(pictures.iterdir())[10:]:
        path.unlink()
    (pictures / "notes.txt").write_bytes(b"no picture")
    master, terminal = pty.openpty()
    try:
        with start(tmp_path, "import", pictures, "--cache", "c", "--json", stderr=terminal) as done:
            assert json.loads(done.stdout.readlines()[-1])["bad"] == 1
            assert done.wait(PATIENCE) == 1
        assert b"Importing" in os.read(master, 10_000)
    finally:
        os.close(master)
        os.close(terminal)


def test_after_an_interruption_the_same_command_goes_on(tmp_path, pictures):
    """Ctrl-C ends the command with one sentence and exit code 130."""
    process = start(tmp_path, "import", pictures, "--cache", "c")
    wait_until(lambda: len(blob_files(tmp_path / "c")) > 10)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, b"")
    assert err.decode().splitlines()[-1] == "Interrupted: run the same command again to go on."
    with start(tmp_path, "import", pictures, "--cache", "c", "--json") as again:
        counts = json.loads(again.stdout.readlines()[-1])
    assert counts["known"] > 0
    assert counts["known"] + counts["stored"] == 800
