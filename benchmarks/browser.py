"""Headless Chromium: what a page holds once its scripts have run, and a picture of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Without the sandbox (root has none), and without any service of the browser's maker.
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-quic", "--disable-background-networking", "--no-first-run"),
    *("--disable-component-update", "--hide-scrollbars"),
)


def program() -> str | None:
    """The browser on this machine; None if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def html(
    url: str, *, seconds: float, size: tuple[int, int] = (1400, 4000), offline: bool = False
) -> str:
    """The page's HTML once its scripts have run.

    Args:
        url: Of the page.
        seconds: Of the page's own clock, which stands still while it waits for an answer or works.
        size: Width and height in pixels; pages leave out what is not in view.
        offline: Find no other machine, whatever the page asks for.
    """
    options = ["--host-resolver-rules=MAP * ~NOTFOUND"] if offline else []
    return _run(url, seconds, size, "--dump-dom", *options)


def picture(
    url: str, path: Path, *, seconds: float = 15.0, size: tuple[int, int] = (1600, 1000)
) -> None:
    """Write a PNG of the page."""
    _run(url, seconds, size, f"--screenshot={path.resolve()}")
    if not path.is_file():
        sys.exit(f"no picture of {url}")


def _run(url: str, seconds: float, size: tuple[int, int], *options: str) -> str:
    browser = program()
    if browser is None:
        sys.exit("chromium is not installed (apt-get install chromium)")
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile:
        done = subprocess.run(
            [
                *(browser, *OPTIONS, f"--user-data-dir={profile}"),
                *(f"--window-size={size[0]},{size[1]}",),
                *(f"--virtual-time-budget={seconds * 1000:.0f}", *options, url),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    if done.returncode != 0:
        sys.exit(f"chromium, on {url}:\n{done.stderr}")
    return done.stdout
