"""A page as a person sees it: in headless Chromium, which the tests skip where it is missing."""

from __future__ import annotations

import html
import shutil
import subprocess
from pathlib import Path

import pytest

# Without the sandbox (root has none), and without any service of the browser's maker.
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-quic", "--disable-background-networking", "--no-first-run"),
    *("--disable-component-update", "--hide-scrollbars"),
    # So high that all of a page is in view: pages leave out what is not.
    "--window-size=1400,4000",
)

_TRIES = 4


def page(
    url: str, folder: Path, *expected: str, seconds: float = 20.0, offline: bool = False
) -> str:
    """The page's HTML once its scripts have run, and all that is expected is in it as text.

    On a busy machine a page may be looked at before it has everything, so it is opened again.

    Args:
        url: Of the page.
        folder: For the browser's profile.
        expected: Texts of whole elements, or parts of them.
        seconds: Of the page's own clock, which stands still while it waits for an answer.
        offline: Find no other machine, whatever the page asks for.

    Raises:
        AssertionError: Something is missing, after a few tries.
    """
    options = ["--host-resolver-rules=MAP * ~NOTFOUND"] if offline else []
    for _ in range(_TRIES):
        seen = _run(url, folder, seconds, "--dump-dom", *options)
        missing = [each for each in expected if as_text(each) not in seen]
        if not missing:
            return seen
    raise AssertionError(f"{url} does not show {missing}:\n{seen[-3000:]}")


def as_text(text: str) -> str:
    """How a page's HTML has this text, where it is text."""
    return html.escape(text, quote=False)


def _run(url: str, folder: Path, seconds: float, *options: str) -> str:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium here")
    done = subprocess.run(
        [
            *(browser, *OPTIONS, f"--user-data-dir={folder / 'profile'}"),
            *(f"--virtual-time-budget={seconds * 1000:.0f}", *options, url),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
