"""`trialfleet tensorboard` as a person sees it: the page in a browser, and what is behind it."""

from __future__ import annotations

import json
import re
import signal
from typing import Any
from urllib.request import urlopen

import pytest

from tests.support import browser
from tests.support.processes import Commands
from tests.support.studies import create, send_metrics, take, train_by_hand
from trialfleet.store.storage import Database

HOSTILE = '"><img src=x onerror=document.body.dataset.ran=1>'


def asked(url: str) -> Any:
    with urlopen(url, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_a_browser_shows_the_values_and_names_as_text(
    database: Database, commands: Commands
) -> None:
    study = create(database, train_steps=32)
    train_by_hand(database, study, take(database), scores=[101.0, 302.5])
    claim = take(database)
    named = {"return": [40.0, 51.0], "episode_return": [33.0, 34.0], HOSTILE: [7.125, 7.125]}
    send_metrics(database, claim, 16, named)
    process = commands.start("tensorboard", "trivial", "--port", "0")
    process.wait_until(lambda: "tensorboard: " in process.stderr)
    [url] = re.findall(r"tensorboard: (http://127.0.0.1:\S+/)", process.stderr)

    # Before the browser: a page with no data yet would say so until it is loaded again.
    tags = url + "data/plugin/scalars/tags"
    process.wait_until(lambda: {"trial-0000", "trial-0001"} <= asked(tags).keys())
    # With a filter it shows all tags, and not the first two alone.
    values = (" 201.75 ", " 45.5 ", " 33.5 ", " 7.125 ")  # each the mean over two seeds
    names = ("Evaluation Score", "Episodic Score", "trial-0000", "trial-0001", HOSTILE)
    text = browser.page(url + "?tagFilter=.*#timeseries", *names, *values)
    assert "data-ran" not in text

    # What the HParams page asks for. It shows the first few: those that differ.
    told = asked(url + "data/plugin/hparams/experiment?request={}")
    knobs = [info["name"] for info in told["hparamInfos"]]
    assert set(knobs[:2]) == {"learning_rate", "gamma"}
    assert set(knobs) == set(study.spec.agent)
    process.send(signal.SIGINT)
    process.expect(130)
