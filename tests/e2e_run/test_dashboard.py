"""The dashboard: where it listens, what it refuses, how it ends, and what a browser shows of it.

optuna-dashboard is an extra; where its pages do not matter, one of the tests' own stands in for
them, by the public entry.
"""

from __future__ import annotations

import re
import signal
import socket
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import optuna
import pytest

from coordinator.watch import step, watch
from tests.support import browser
from tests.support.processes import Commands
from tests.support.studies import create, finish, take, train_by_hand
from trialfleet.settings import Settings
from trialfleet.store.storage import Database

HOSTILE = '"><img src=x onerror=document.body.dataset.ran=1><script>alert(1)</script>'

PAGE = """
def wsgi(storage, artifact_store=None):
    def page(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"page"]

    return page
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_serves_reads_only_and_ends_with_its_signal(commands: Commands, host: str) -> None:
    (commands.folder / "optuna_dashboard.py").write_text(PAGE)
    process = commands.start("dashboard", "--host", host, "--port", "0")
    process.wait_until(lambda: "dashboard: " in process.stderr)
    (url,) = re.findall(r"dashboard: (http://\S+/)", process.stderr)
    assert ("[::1]" in url) is (host == "::1")
    with urlopen(url) as answer:
        assert answer.status == 200
    with pytest.raises(HTTPError, match="403"):
        urlopen(Request(url, method="DELETE"))
    process.send(signal.SIGINT)
    process.expect(130)


def test_an_address_that_is_taken(commands: Commands) -> None:
    (commands.folder / "optuna_dashboard.py").write_text(PAGE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = commands.run("dashboard", "--port", str(port), code=2).error_line
    assert f"cannot listen on http://127.0.0.1:{port}/: Address already in use" in line


def test_a_browser_shows_the_study_its_note_and_names_as_text(
    database: Database, commands: Commands
) -> None:
    pytest.importorskip("optuna_dashboard")
    study = create(database, trials=2, top=2, final_seeds=2)
    for score in (41.25, 30.0):
        train_by_hand(database, study, take(database), scores=[score, score + 1])
    step(database, study.name)
    train_by_hand(database, study, take(database), scores=[70.5, 80.0])
    finish(database, take(database), state="FAIL", attributes={"reason": HOSTILE})
    study = watch(database, study.name, settings=Settings(), pause=lambda _: None)
    optuna.create_study(storage=database.optuna_storage(), study_name=HOSTILE)
    process = commands.start("dashboard", "--port", "0")
    process.wait_until(lambda: "dashboard: " in process.stderr)
    [url] = re.findall(r"dashboard: (http://\S+/)", process.stderr)
    for path, expected in {
        "": ["trivial", "trivial.final", HOSTILE],
        f"/studies/{study.search_id}/trials?numbers=0": ["41.75", "41.25", "Winner", "75.2"],
        f"/studies/{study.final_id}/note": ["Trial 0 won, with a mean of 75.2", HOSTILE],
    }.items():
        text = browser.page(f"{url}dashboard{path}", *expected)
        assert "data-ran" not in text
    process.send(signal.SIGINT)
    process.expect(130)
