"""What a process loads as it starts, and what it does without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict

from optuna.artifacts import ArtifactMeta
from optuna.artifacts._upload import ARTIFACTS_ATTR_PREFIX

from trialfleet.store.trials.optuna_rows import artifact_link


def test_an_artifact_is_listed_as_optuna_lists_it() -> None:
    expected = ArtifactMeta(artifact_id="a1", filename="x.png", mimetype="image/png", encoding=None)
    ((key, value),) = artifact_link("a1", "x.png", "image/png").items()
    assert key == f"{ARTIFACTS_ATTR_PREFIX}a1"
    assert json.loads(value) == asdict(expected)


def test_a_worker_and_a_coordinator_start_without_boto3() -> None:
    """Installed for S3, it would cost each of them half a second at every start."""
    code = "import sys, worker.loop, coordinator.watch; sys.exit('boto3' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_worker_without_a_database_says_so_before_it_loads_pytorch() -> None:
    """PyTorch takes seconds, and whoever has given a wrong URL would wait for them."""
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['trialfleet', 'worker'];"
        "from trialfleet.cli.main import main; main()"
    )
    settings = {
        "TRIALFLEET_DATABASE_URL": "postgresql://user@127.0.0.1:1/x",
        "TRIALFLEET_MIGRATION_PATIENCE": "0",
        "TRIALFLEET_OUTAGE_PATIENCE": "0",
    }
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, env={**os.environ, **settings}, check=False, timeout=60)
    assert ended.returncode == 5
