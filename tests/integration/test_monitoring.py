"""A coordinator's metrics and notices, on studies whose trials are finished by hand."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import URL, text

from coordinator.exposure import BoundedServer
from coordinator.lead import Leadership
from coordinator.monitoring.asking import Asked
from coordinator.monitoring.notices import Notices
from coordinator.monitoring.server import MetricsServer
from coordinator.watch import step, watch
from tests.integration.test_watch import SETTINGS, go_on, train_all
from tests.support.commands import command, told
from tests.support.server import plain
from tests.support.studies import (
    create,
    expire,
    finish,
    take,
    take_all,
    train_by_hand,
    trivial_study,
)
from trialfleet.errors import StudyFailedError
from trialfleet.postgres.waiting import wait_until
from trialfleet.store import leases, studies, workers
from trialfleet.store.storage import Database
from trialfleet.store.workers import NOTHING, Measured

Open = Callable[[], Database]
Samples = dict[tuple[str, ...], float]


@pytest.fixture
def serving(database: Database) -> Iterator[MetricsServer]:
    """Metrics of the study `trivial`, which does not exist yet."""
    server = MetricsServer(database.url, "trivial", host="127.0.0.1", port=0, errors=lambda: 7)
    with closing(server):
        yield server


def get(serving: MetricsServer, path: str, accept: str = "") -> tuple[int, str]:
    request = Request(f"http://127.0.0.1:{serving.port}{path}", headers={"Accept": accept})
    try:
        with urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as exc:
        return exc.code, exc.read().decode()


def samples(served: str) -> Samples:
    """Value by name and labels, the study's left out."""
    found: Samples = {}
    for family in text_string_to_metric_families(served):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("study") == "trivial"
            found[(sample.name.removeprefix("trialfleet_"), *labels.values())] = sample.value
    return found


def test_the_metrics_say_what_the_database_knows(
    database: Database, serving: MetricsServer
) -> None:
    study = create(database, trials=6)
    train_by_hand(database, study, take(database), scores=[3.0, 5.0])
    finish(database, take(database), state="PRUNED", value=9.0)
    finish(database, take(database), state="FAIL")
    take(database)
    expire(database)
    leases.reap(database, "trivial")
    running = take(database)
    measured = Measured(
        claims=[2, 1, *NOTHING.claims[3:], 1], claim_seconds=12.5, database_errors=3
    )
    for name, pace in (("one", 100.0), ("two", 20.0)):
        workers.beat(
            database,
            {"worker": name, "study": "trivial", "host": "here", "pid": 1, "version": "1"},
            trial_number=running.number,
            step=8,
            steps_per_second=pace,
            measured=measured,
        )
    status, served = get(serving, "/metrics")
    assert status == 200, served
    found = samples(served)
    expected = {
        ("study_stage", "search"): 1,
        ("study_stage", "done"): 0,
        ("trials", "search", "complete"): 1,
        ("trials", "search", "pruned"): 1,
        ("trials", "search", "failed"): 1,
        ("trials", "search", "running"): 1,
        ("trials", "search", "waiting"): 0,
        ("trials_budget",): 6,
        ("best_value",): 4.0,
        ("agent_steps_per_second",): 120.0,
        ("workers",): 2,
        ("lease_losses_total",): 1,
        ("database_errors_total", "workers"): 6,
        ("database_errors_total", "coordinator"): 7,
        ("claim_seconds_bucket", "0.002"): 4,
        ("claim_seconds_bucket", "0.005"): 6,
        ("claim_seconds_bucket", "10.0"): 6,
        ("claim_seconds_bucket", "+Inf"): 8,
        ("claim_seconds_count",): 8,
        ("claim_seconds_sum",): 25.0,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert ("trials", "final", "complete") not in found
    _, served = get(serving, "/metrics", accept="application/openmetrics-text; version=1.0.0")
    families = open_metrics_families(served)  # type: ignore[no-untyped-call]
    assert any(family.name == "trialfleet_workers" for family in families)


def test_what_is_not_known_yet_is_left_out(database: Database, serving: MetricsServer) -> None:
    assert get(serving, "/metrics") == (503, "no study is called 'trivial'\n")
    create(database)
    found = samples(get(serving, "/metrics")[1])
    assert ("best_value",) not in found
    assert ("eta_seconds",) not in found
    assert found[("workers",)] == 0
    assert found[("claim_seconds_count",)] == 0
    train_all(database, studies.find(database, "trivial"))
    step(database, "trivial")
    assert samples(get(serving, "/metrics")[1])[("trials", "final", "waiting")] == 4


def test_health_is_that_of_the_database(serving: MetricsServer) -> None:
    assert get(serving, "/healthz") == (200, "ok\n")
    assert get(serving, "/secrets")[0] == 404
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = URL.create("postgresql+psycopg2", "me", "s3cr3t", "127.0.0.1", port, "none")
    gone = MetricsServer(url, "trivial", host="127.0.0.1", port=0, errors=lambda: 0)
    with closing(gone):
        for path in ("/healthz", "/metrics"):
            assert get(gone, path) == (503, "the database does not answer\n")


def test_a_scrape_that_the_database_does_not_answer_holds_up_nobody(
    database: Database, open_database: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.monitoring.server._SCRAPE", 0.5)
    create(database)
    served = MetricsServer(database.url, "trivial", host="127.0.0.1", port=0, errors=lambda: 0)
    with closing(served), open_database().transaction() as other:
        other.execute(text("LOCK TABLE fleet.workers"))
        began = time.monotonic()
        assert get(served, "/metrics") == (503, "the database does not answer\n")
        assert get(served, "/healthz") == (200, "ok\n")
        assert step(database, "trivial").stage == "search"
        assert time.monotonic() - began < 10.0


def test_connections_that_ask_nothing_keep_nobody_out(
    serving: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest of them is closed for the next."""
    monkeypatch.setattr(BoundedServer, "most", 8)
    before = threading.active_count()
    with ExitStack() as opened:
        idle = [
            opened.enter_context(socket.create_connection(("127.0.0.1", serving.port)))
            for _ in range(40)
        ]
        assert get(serving, "/healthz") == (200, "ok\n")
        # Sooner than after the ten seconds that each may be idle.
        assert wait_until(lambda: threading.active_count() - before <= 8, 5.0)
        idle[0].settimeout(1.0)
        assert idle[0].recv(1) == b""


def test_connections_whose_answer_takes_its_time_are_limited(
    serving: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedServer, "most", 4)
    answered = threading.Event()
    questions = serving._server.questions
    monkeypatch.setattr(questions, "health", Asked(answered.wait, seconds=60.0))
    before = threading.active_count()
    with ExitStack() as opened:
        for _ in range(40):
            client = opened.enter_context(socket.create_connection(("127.0.0.1", serving.port)))
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        client.settimeout(20.0)
        assert client.recv(1) == b""  # refused
        assert threading.active_count() - before <= 9  # one of them asks
        answered.set()
        assert wait_until(lambda: threading.active_count() == before, 20.0)
    assert get(serving, "/healthz") == (200, "ok\n")


def test_who_asks_waits_no_longer_than_is_allowed_and_for_one_question() -> None:
    answered, asked = threading.Event(), []

    def question() -> int:
        asked.append(threading.current_thread())
        answered.wait()
        return len(asked)

    asking = Asked(question, seconds=0.05)
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            asking.answer()
    assert time.monotonic() - began < 5.0
    assert len(asked) == 1
    answered.set()
    asked[0].join()
    assert asking.answer() == 2


def test_a_port_that_is_taken_and_a_url_that_is_none_are_refused_before_a_study_is_made(
    database: Database,
    database_url: URL,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(database_url))
    (tmp_path / "study.toml").write_text(trivial_study(), encoding="utf-8")
    file = str(tmp_path / "study.toml")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert command("coordinate", file, "--metrics-port", port) == 2
        assert f"--metrics-port: cannot listen on http://127.0.0.1:{port}/" in told(capsys)
    # Before the database is asked anything: nobody listens there.
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    assert command("coordinate", file, "--notify", "ftp://s3cr3t") == 2
    refused = told(capsys)
    assert "--notify (or TRIALFLEET_NOTIFY)" in refused
    assert "s3cr3t" not in refused
    monkeypatch.setenv("TRIALFLEET_METRICS_PORT", "99999")
    assert command("coordinate", file) == 2
    assert "TRIALFLEET_METRICS_PORT" in told(capsys)
    assert studies.find_all(database) == []


def test_a_coordinator_that_is_to_stay_goes_on_telling_that_the_study_failed(
    database: Database,
    database_url: URL,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(database_url))
    content = trivial_study(trials=1, top=1, max_failures=0)
    (tmp_path / "study.toml").write_text(content, encoding="utf-8")
    create(database, trials=1, top=1, max_failures=0)
    finish(database, take(database), state="FAIL")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def failed() -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                found = samples(answer.read().decode())
        except URLError:
            return False
        return found[("study_stage", "failed")] == 1

    def look() -> bool:
        seen = wait_until(failed, 60, pause=0.05)
        os.kill(os.getpid(), signal.SIGTERM)
        return seen

    file = str(tmp_path / "study.toml")
    with ThreadPoolExecutor() as pool:
        seen = pool.submit(look)
        assert command("coordinate", file, "--stay", "--metrics-port", str(port)) == 143
        assert seen.result()
    assert "study 'trivial' failed: 1 trials failed" in capsys.readouterr().err


def test_a_study_as_notices(database: Database) -> None:
    study = create(database, trials=4, max_failures=1, top=1)
    sent: list[Mapping[str, Any]] = []
    train_by_hand(database, study, take(database), scores=[1.0, 1.0])
    rounds: list[Callable[[], object]] = [
        lambda: train_by_hand(database, study, take(database), scores=[3.0, 4.0]),
        lambda: finish(database, take(database), state="PRUNED", value=99.0),
        lambda: finish(database, take(database), state="FAIL", attributes={"reason": "\x1b[2J"}),
    ]

    def pause(_seconds: float) -> None:
        if rounds:
            rounds.pop(0)()
            return
        claims = take_all(database)
        began = any(claim.stage == "final" for claim in claims)
        trials = database.optuna_study("trivial.final").get_trials() if began else []
        for claim in claims:
            agents = len(trials[claim.number].user_attrs["seeds"]) if began else 2
            train_by_hand(database, study, claim, scores=[50.0 if began else 5.0] * agents)

    ended = watch(
        database, "trivial", settings=SETTINGS, pause=pause, notices=Notices(database, sent.append)
    )
    assert json.loads(json.dumps(sent)) == sent
    assert {each["study"] for each in sent} == {"trivial"}
    start, best, failure, *more, end = sent
    assert (start["event"], start["resumed"], start["counted"], start["budget"]) == (
        "start",
        True,
        1,
        4,
    )
    assert (best["event"], best["trial"], best["score"], best["before"]) == ("best", 1, 3.5, 1.0)
    assert (failure["event"], failure["trial"], failure["stage"]) == ("failure", 3, "search")
    assert failure["text"] == "trivial: search trial 3 failed: \\x1b[2J"
    # Trial 4 is the last of the search; what the final stage scores is no best of the search.
    assert [(each["event"], each["trial"]) for each in more] == [("best", 4)]
    assert ended.result is not None
    assert (end["event"], end["stage"], end["counted"], end["failed"]) == ("end", "done", 4, 1)
    assert end["winner"]["trial"] == ended.result["model"]["search_trial"]
    assert end["winner"]["interval"][0] <= end["winner"]["mean"]


def test_a_failed_study_says_so_and_an_ended_one_says_nothing(database: Database) -> None:
    create(database, trials=1, max_failures=0, top=1)
    finish(database, take(database), state="FAIL")
    for expected in (["start", "end"], []):
        sent: list[Mapping[str, Any]] = []
        with pytest.raises(StudyFailedError):
            watch(
                database,
                "trivial",
                settings=SETTINGS,
                pause=go_on(database),
                notices=Notices(database, sent.append),
            )
        assert [each["event"] for each in sent] == expected
        assert [each["stage"] for each in sent][1:] == ["failed"] * (len(expected) - 1)


def test_a_coordinator_that_stands_by_tells_nothing(
    database: Database, open_database: Open
) -> None:
    create(database, trials=1, top=1)
    sent: list[Mapping[str, Any]] = []
    other = Leadership(open_database(), "trivial", lease_seconds=300.0)
    assert other.hold()

    def pause(seconds: float) -> None:
        go_on(database)(seconds)
        step(database, "trivial")  # the leader's

    notices = Notices(database, sent.append)
    watch(database, "trivial", settings=SETTINGS, pause=pause, notices=notices)
    assert sent == []
    assert wait_until(lambda: studies.find(database, "trivial").ended, 1)
