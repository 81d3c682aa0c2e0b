"""Containers for the tests: `make e2e`. They need a Docker engine with Compose v2 and Buildx."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.compose import ROOT, TAG, Project, build
from tests.e2e.story import Story, tell


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here: `make test` leaves it out, because not every machine has an engine."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.docker)
            item.add_marker(pytest.mark.timeout(1500))


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine that answers."""
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except FileNotFoundError:
            pytest.fail("these tests need docker; nothing of that name is installed")
        if done.returncode != 0:
            pytest.fail(f"these tests need a Docker engine: `{' '.join(command)}`: {done.stderr}")


@pytest.fixture(scope="session")
def images(engine: None) -> None:
    """The three images, built as docker-compose.yml says."""
    project = Project("trialfleet-e2e-build", ROOT)
    project.compose("build", "coordinator", "worker", "dashboard")


@pytest.fixture(scope="session")
def tools(engine: None) -> str:
    """An image with a browser, a connection pooler and cloud-init."""
    return build(f"trialfleet-e2e-tools:{TAG}", "tools")


@pytest.fixture(scope="session")
def story(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """A study that has ended, by way of killed workers and a restarted database."""
    project = Project("trialfleet-e2e", tmp_path_factory.mktemp("compose"))
    project.down()  # what a run that was killed has left
    try:
        yield tell(project)
    finally:
        project.down()
