"""deploy/fleet.compose.yml: the one-study services, told to serve every study."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.unit.test_monitoring_files import has_compose

ROOT = Path(__file__).resolve().parents[2]


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
