"""deploy/swarm/stack.yml on the local engine, as a swarm of one node."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.compose import ROOT, check_invariants_from, docker, eventually

STACK = "trialfleet-e2e-swarm"
FILE = "deploy/swarm/stack.yml"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made as `make secrets` makes them."""
    folder = tmp_path_factory.mktemp("swarm") / "secrets"
    program = str(ROOT / "deploy" / "image" / "make_secrets.py")
    subprocess.run([sys.executable, program, str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def stack(images: None, secrets: Path) -> Iterator[str]:
    """The stack, deployed; the swarm goes with it if it was made for it."""
    joined = docker("info", "--format", "{{.Swarm.LocalNodeState}}").strip() == "active"
    if not joined:
        docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    # What a run that was killed has left: its passwords are not these.
    docker("volume", "rm", f"{STACK}_data", check=False)
    study = str(ROOT / "tests" / "e2e" / "tiny.toml")
    # The images are here, and in no registry.
    deploy = ("stack", "deploy", "--resolve-image", "never", "--compose-file", FILE, STACK)
    try:
        docker(*deploy, SECRETS=str(secrets), STUDY_FILE=study, WORKERS="3")
        yield STACK
    finally:
        print(docker("stack", "ps", "--no-trunc", STACK, check=False))
        docker("stack", "rm", STACK, check=False)
        named = ("--quiet", "--filter", f"label=com.docker.stack.namespace={STACK}")
        eventually(lambda: not docker("ps", "--all", *named), "the containers are gone")
        docker("volume", "rm", f"{STACK}_data", check=False)
        if not joined:
            docker("swarm", "leave", "--force", check=False)


def states(service: str) -> list[str]:
    """The states of a service's tasks, the newest first."""
    format_ = ("--format", "{{.CurrentState}} {{.Error}}", "--no-trunc")
    return docker("service", "ps", *format_, f"{STACK}_{service}").splitlines()


def test_a_stack_runs_a_study_to_its_end(stack: str, secrets: Path) -> None:
    def ended() -> bool:
        workers = [state for state in states("worker") if state.startswith("Complete")]
        return bool(states("coordinator")[0].startswith("Complete") and len(workers) == 3)

    eventually(ended, "coordinator and workers are complete", patience=600.0)
    check_invariants_from(f"{stack}_database", f"{secrets / 'coordinator'}:/secrets:ro", "tiny")
    # More workers come and go at once: there is nothing left to do.
    docker("service", "scale", "--detach", f"{stack}_worker=4")
    eventually(
        lambda: sum(state.startswith("Complete") for state in states("worker")) >= 4,
        "the fourth worker is complete",
    )


def test_nothing_of_the_stack_is_published_and_no_secret_is_in_it(
    stack: str, secrets: Path
) -> None:
    services = docker("stack", "services", "--quiet", stack).split()
    assert len(services) == 4
    seen = docker("service", "inspect", *services)
    assert '"PublishedPort"' not in seen
    for file in secrets.rglob("password"):
        assert file.read_text(encoding="utf-8") not in seen
