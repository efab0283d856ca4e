"""A real browser, Debian's Chromium, that looks at the page of a service."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
"""The program; None if it is not installed."""
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs: apt-get install chromium")
SCRIPT_AND_PLAIN = ("script", "plain")
"""With the script of the page, and without any script."""


@contextmanager
def open_browser() -> Iterator[Any]:
    """Open a browser that no window shows; a test opens contexts in it.

    While it is open, no other event loop can run in this thread.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Any, url: str, how: str, **options: Any) -> Iterator[Any]:
    """Open a page in a browser context of its own.

    The context fails at its end if the console had an error, a script raised one or opened a
    dialog, or a request left for another host.

    Args:
        browser: the browser.
        url: the address of the service, to which the paths of `goto` are relative.
        how: `script`, or `plain` for a browser without scripts.
        options: further options of the context.
    """
    troubles: list[str] = []
    context = browser.new_context(
        base_url=url,
        java_script_enabled=how == "script",
        viewport={"width": 1200, "height": 800},
        **options,
    )
    page = context.new_page()

    def note_message(message: Any) -> None:
        if message.type in {"error", "warning"}:
            troubles.append(f"console: {message.text} {message.location}")

    def note_request(request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob"} and parts.netloc != urlsplit(url).netloc:
            troubles.append(f"a request to {request.url}")

    def note_dialog(dialog: Any) -> None:
        troubles.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    context.on("console", note_message)
    context.on("request", note_request)
    context.on("weberror", lambda error: troubles.append(f"an error: {error.error}"))
    page.on("dialog", note_dialog)
    try:
        yield page
    finally:
        context.close()
    if troubles:
        pytest.fail("; ".join(troubles))
