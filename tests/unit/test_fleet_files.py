"""deploy/fleet.compose.yml: the one-study services, told to serve every study."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from tests.unit.test_monitoring_files import has_compose
from trialfleet.cli.main import app

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("file", "services"),
    [
        ("docker-compose.yml", {"postgres", "dashboard", "tensorboard"}),
        ("deploy/fleet.compose.yml", {"coordinator", "worker"}),
        ("deploy/worker.compose.yml", {"worker"}),
        ("deploy/monitoring.compose.yml", {"coordinator", "prometheus", "grafana"}),
    ],
)
def test_what_runs_for_long_comes_back_with_the_docker_daemon(
    file: str, services: set[str]
) -> None:
    """Docker starts nothing again after a reboot that has any other policy, on-failure included."""
    told = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["services"]
    policies = {name: service.get("restart", "no") for name, service in told.items()}
    lasting = ("unless-stopped", "${RESTART:-unless-stopped}")
    assert {name for name, policy in policies.items() if policy in lasting} == services


def test_the_systemd_unit_starts_a_worker_of_one_study_or_of_all() -> None:
    unit = (ROOT / "deploy" / "systemd" / "trialfleet-worker@.service").read_text(encoding="utf-8")
    lines = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and line[0] != "#")
    program, *arguments = lines["ExecStart"].split()
    assert program.endswith("/bin/trialfleet")
    for study in ([], ["cartpole"]):
        words = [*arguments[:-1], *study] if arguments[-1] == "$STUDY" else arguments
        command = typer.main.get_group(app).commands[words[0]]
        with command.make_context(words[0], words[1:]):
            pass
    assert lines["WantedBy"] == "multi-user.target"
    assert lines["RestartPreventExitStatus"].split() == ["2"]


@pytest.mark.skipif(not has_compose(), reason="needs Docker Compose, without an engine")
@pytest.mark.parametrize(("study", "command"), [("", ["worker"]), ("a-1", ["worker", "a-1"])])
def test_workers_on_other_machines_serve_all_studies_or_one(study: str, command: list[str]) -> None:
    told = subprocess.run(
        ["docker", "compose", "--file", "deploy/worker.compose.yml", "config", "--format", "json"],
        cwd=ROOT,
        env={**os.environ, "STUDY": study},
        capture_output=True,
        check=True,
    )
    assert json.loads(told.stdout)["services"]["worker"]["command"] == command


@pytest.mark.skipif(not has_compose(), reason="needs Docker Compose, without an engine")
def test_compose_takes_both_files_together() -> None:
    files = ["--file", "docker-compose.yml", "--file", "deploy/fleet.compose.yml"]
    told = subprocess.run(
        ["docker", "compose", *files, "config", "--format", "json"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    services = json.loads(told.stdout)["services"]
    assert services["coordinator"]["command"] == ["coordinate", "--all", "--out", "/models"]
    assert services["worker"]["command"] == ["worker"]
    for name in ("coordinator", "worker"):
        assert services[name]["restart"] == "unless-stopped"
    # What `run coordinator submit /study.toml` reads.
    targets = [volume["target"] for volume in services["coordinator"]["volumes"]]
    assert "/study.toml" in targets
    assert "tensorboard" not in services
