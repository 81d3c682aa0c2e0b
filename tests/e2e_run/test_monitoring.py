"""A real coordinator, scraped by a real Prometheus, with a webhook that never answers."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from tests.integration.test_watch import train_all
from tests.support.monitoring import FILES, needs_prometheus, questions
from tests.support.processes import Commands
from tests.support.studies import create, expire, take, train_by_hand, trivial_study
from trialfleet.postgres.waiting import wait_until
from trialfleet.store import leases, studies, workers
from trialfleet.store.storage import Database
from trialfleet.store.workers import NOTHING, Measured


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """Prometheus with our configuration, but for the target and the pace; its URL."""
    configuration = yaml.safe_load((FILES / "prometheus.yml").read_text(encoding="utf-8"))
    configuration["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    configuration["rule_files"] = [str(FILES / "rules.yml")]
    configuration["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address={address}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def ask(url: str, expr: str) -> list[dict[str, Any]]:
    """The result of a query; empty while Prometheus is not there yet."""
    try:
        with urlopen(f"{url}/api/v1/query?{urlencode({'query': expr})}", timeout=10) as answer:
            found = json.load(answer)
    except (URLError, ConnectionError):
        return []
    assert found["status"] == "success"
    result: list[dict[str, Any]] = found["data"]["result"]
    return result


@pytest.mark.slow
@needs_prometheus
def test_prometheus_reads_a_study_and_a_dead_webhook_holds_up_nobody(
    commands: Commands, database: Database, tmp_path: Path
) -> None:
    study = create(database, trials=6)
    train_by_hand(database, study, take(database), scores=[4.0, 5.0])
    take(database)
    expire(database)
    leases.reap(database, "trivial")
    running = take(database)
    measured = Measured(claims=[5, *NOTHING.claims[1:]], claim_seconds=0.005, database_errors=1)
    worker = {"worker": "here-1-a", "study": "trivial", "host": "here", "pid": 1, "version": "1"}
    workers.beat(
        database,
        worker,
        trial_number=running.number,
        step=8,
        steps_per_second=40.0,
        measured=measured,
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hook = f"http://127.0.0.1:{silent.getsockname()[1]}/s3cr3t"
        coordinator = commands.start(
            "coordinate",
            commands.study_file(trivial_study(trials=6)),
            *("--metrics-port", "0"),
            env={"TRIALFLEET_NOTIFY": hook},
        )
        coordinator.wait_until(lambda: "/metrics" in coordinator.stderr)
        served = re.search(
            r"^metrics: http://(127\.0\.0\.1:\d+)/metrics$", coordinator.stderr, re.M
        )
        assert served is not None, coordinator.stderr
        with prometheus(tmp_path, served[1]) as url:
            # Rates need two scrapes.
            scraped = 'count_over_time(trialfleet_workers{study="trivial"}[1m])'
            assert wait_until(
                lambda: any(int(each["value"][1]) >= 2 for each in ask(url, scraped)), 60, pause=0.1
            ), (tmp_path / "prometheus.log").read_text()
            asked = questions("trivial")
            empty = [panel for panel, expr in asked.items() if not ask(url, expr)]
            assert empty == []
            values = {
                panel: float(ask(url, asked[panel])[0]["value"][1])
                for panel in ("Best score ", "Workers alive ", "Agent-steps per second ")
            }
            assert [*values.values()] == [4.5, 1.0, 40.0]
            (lost,) = ask(url, "trialfleet_lease_losses_total")
            assert lost["value"][1] == "1"
            with urlopen(f"{url}/api/v1/rules", timeout=10) as answer:
                (group,) = json.load(answer)["data"]["groups"]
            assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}
        leases.release(database, running)

        def ended() -> bool:
            train_all(database, study)
            return studies.find(database, "trivial").ended

        coordinator.wait_until(ended)
        coordinator.expect(0)
    assert study.name in coordinator.stdout
    assert "s3cr3t" not in coordinator.stdout + coordinator.stderr
