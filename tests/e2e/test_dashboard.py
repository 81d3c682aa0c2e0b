"""The dashboard and TensorBoard as a person sees them: in a browser."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from benchmarks import browser
from tests.e2e.compose import docker, eventually
from tests.e2e.story import Story

# Pages leave out what is not in view, so the window is high.
BROWSER = (
    *("chromium", *browser.OPTIONS, "--window-size=1400,4000"),
    *("--virtual-time-budget=15000", "--dump-dom"),
)


@pytest.fixture
def address(story: Story) -> str:
    """Where the dashboard is published on this machine."""
    return "http://" + story.project.compose("port", "dashboard", "8080").strip()


def page(tools: str, url: str) -> str:
    """The page as it stands once its scripts have run."""
    options = ("run", "--rm", "--network", "host", "--init")
    return docker(*options, tools, *BROWSER, url)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/dashboard", ["small", "small.final"]),
        ("/dashboard/studies/1/trials", ["small", "learning_rate", "Trial 0"]),
    ],
)
def test_a_browser_shows_the_study(
    tools: str, address: str, path: str, expected: list[str]
) -> None:
    def shown() -> bool:
        text = page(tools, address + path)
        return all(word in text for word in expected)

    eventually(shown, f"{path} shows {expected}: {page(tools, address + path)[-3000:]}")


def test_a_browser_shows_the_curves(tools: str, story: Story) -> None:
    url = "http://" + story.project.compose("port", "tensorboard", "6006").strip()
    with urllib.request.urlopen(url + "/data/runs", timeout=10) as answer:
        assert b"final-trial-" in answer.read()

    def shown() -> bool:
        text = page(tools, url + "/?tagFilter=Score#timeseries")
        return "Evaluation Score" in text and "final-trial-" in text

    eventually(shown, f"TensorBoard shows the finalists: {page(tools, url)[-3000:]}")


def test_nothing_can_be_changed_through_it(address: str) -> None:
    request = urllib.request.Request(address + "/api/studies/1", method="DELETE")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=10)
