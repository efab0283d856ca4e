"""`imgcache ui`: the page of a folder, on this machine only, in the browser."""

import os
import re
import signal

import httpx

from tests.support.commands import MAIN, assert_failed, clean_environment
from tests.support.forking import run_python, start
from tests.support.waiting import PATIENCE, wait_until


def test_the_browser_opens_the_page_of_a_folder(tmp_path, cache):
    """The command prints the address, opens the browser there, and ends on Ctrl-C."""
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\necho $1 > '{opened}.new' && mv '{opened}.new' '{opened}'\n")
    browser.chmod(0o755)
    waits = tmp_path / ".scrapy" / "imgcache-spool" / ("0" * 64)
    waits.parent.mkdir(parents=True)
    waits.write_bytes(b"record")
    process = start(
        run_python,
        MAIN,
        ["ui", str(cache)],
        folder=tmp_path,
        environment={**clean_environment(), "BROWSER": f"{browser} %s"},
        out=tmp_path / "out",
    )
    wait_until(lambda: opened.exists() or not process.is_alive())
    address = opened.read_text().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
    assert address in (tmp_path / "out").read_text()
    with httpx.Client(trust_env=False, timeout=PATIENCE) as http:
        assert "a b.png" in http.get(address).text
        text = http.get(f"{address}ui/state").text
        assert "<dt>Wait in the spool</dt><dd>1 (6 B)</dd>" in text
    os.kill(process.pid, signal.SIGINT)
    process.join(PATIENCE)
    assert process.exitcode in {0, -signal.SIGINT}
    assert "Traceback" not in (tmp_path / "out").read_text()


def test_only_a_folder_is_shown(run, tmp_path):
    """The address of a service, and a folder without a cache, are refused with a sentence."""
    assert_failed(run("ui", "http://127.0.0.1:9"), "open it in the browser")
    assert_failed(run("ui", str(tmp_path / "none")), "there is no cache")
