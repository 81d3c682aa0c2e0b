"""A page as a person sees it: in headless Chromium. Tests are skipped where it is missing."""

from __future__ import annotations

from html import escape

import pytest

from benchmarks import browser

_TRIES = 6


def page(
    url: str,
    *expected: str,
    seconds: float = 10.0,
    offline: bool = False,
    size: tuple[int, int] = (1400, 4000),
) -> str:
    """The page's HTML once its scripts have run, and all that is expected is in it as text.

    On a busy machine a page may be looked at before it has everything, so it is opened again.

    Args:
        url: Of the page.
        expected: Texts of whole elements, or parts of them.
        seconds: Of the page's own clock, which stands still while it waits for an answer.
        offline: Find no other machine, whatever the page asks for.
        size: Of the window, in pixels.

    Raises:
        AssertionError: Something is missing, after a few tries.
    """
    if browser.program() is None:
        pytest.skip("no chromium here")
    for _ in range(_TRIES):
        seen = browser.html(url, seconds=seconds, offline=offline, size=size)
        missing = [each for each in expected if escape(each, quote=False) not in seen]
        if not missing:
            return seen
    raise AssertionError(f"{url} does not show {missing}:\n{seen[-3000:]}")
