"""A study that cannot succeed ends with its reasons, an exit code, and nothing left pending."""

from __future__ import annotations

from contextlib import suppress

import pytest
from sqlalchemy import text

from tests.support.invariants import check_invariants
from tests.support.processes import Commands
from tests.support.studies import create, trivial_study
from trialfleet.cli.local.pool import WorkerPool, WorkersKeepDyingError
from trialfleet.postgres.waiting import wait_until
from trialfleet.store import studies
from trialfleet.store.storage import Database

BROKEN = """
import sys
import gymnasium
import numpy as np

# `check` and `run` try it once, and would refuse it.
reward = 0.0 if sys.argv[0].endswith("trying.py") else float("nan")


class Broken(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), reward, False, False, {}


gymnasium.register("Broken-v0", entry_point=Broken, max_episode_steps=8)
"""


def test_a_study_whose_every_trial_fails_ends_with_the_reasons(
    commands: Commands, database: Database
) -> None:
    (commands.folder / "broken.py").write_text(BROKEN)
    file = commands.study_file(
        trivial_study(name="hopeless", env="broken:Broken-v0", trials=10, max_failures=3)
    )
    run = commands.run("run", file, "--workers", "2", code=4)
    last = run.stderr.splitlines()[-1]
    assert last.startswith("trialfleet: study 'hopeless' failed: ")
    assert "trials failed, and all alike: NonFinite" in last
    assert "`trialfleet retry` lets it go on" in last
    assert "Traceback" not in run.stderr
    check_invariants(database, "hopeless")
    study = studies.find(database, "hopeless")
    assert study.stage == "failed"
    with database.transaction() as connection:
        failed = connection.scalar(text("SELECT count(*) FROM public.trials"))
    # What is enough, and what was under way then.
    assert failed is not None
    assert 3 <= failed <= 6
    # The same command again says the same, whoever gives it.
    for again in (["run", file], ["coordinate", file]):
        line = commands.run(*again, code=4).error_line
        assert line.startswith("trialfleet: study 'hopeless' failed: ")
        assert "NonFinite" in line
    # It is mended, and goes on.
    (commands.folder / "broken.py").write_text(BROKEN.replace('float("nan")', "1.0"))
    assert "3 more trials may fail" in commands.run("retry", "hopeless").stdout
    commands.run("run", file, "--workers", "2")
    assert studies.find(database, "hopeless").stage == "done"
    check_invariants(database, "hopeless")


def test_workers_that_end_in_a_trial_are_replaced_until_the_study_has_had_enough(
    commands: Commands, database: Database
) -> None:
    """However they end: exit code 0 is a death, too, and the study counts its losses itself."""
    # `run` tries the environment for 100 steps before it starts anything.
    leaving = "        type(self).left -= 1\n        type(self).left or os._exit(0)\n        return"
    (commands.folder / "broken.py").write_text(
        BROKEN.replace(
            "        return np.zeros(2, np.float32), reward", f"{leaving} np.zeros(2), 0.0"
        )
        .replace("    observation_space", "    left = 101\n    observation_space", 1)
        .replace("import gymnasium\n", "import os\nimport gymnasium\n", 1)
    )
    study = trivial_study(
        name="leaving",
        env="broken:Broken-v0",
        train_steps=128,
        eval_every=128,
        max_failures=2,
        max_attempts=2,
    )
    file = commands.study_file(study)
    lease = {"TRIALFLEET_LEASE_SECONDS": "1"}
    run = commands.start("run", file, "--workers", "1", env=lease)
    assert run.wait(350.0) == 4, run.stderr
    # More deaths of one slot than it may have before it gets anywhere.
    assert run.stderr.count("worker died") >= 6
    assert "3 trials failed" in run.stderr.splitlines()[-1]
    check_invariants(database, "leaving")


def test_workers_that_never_get_anywhere_end_the_run(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIALFLEET_OUTAGE_PATIENCE", "0")
    url = "postgresql://user@127.0.0.1:1/x"
    pool = WorkerPool(url, "any", count=1, logs=commands.folder, got_somewhere=lambda pid: False)

    def gave_up() -> bool:
        with suppress(WorkersKeepDyingError):
            pool.tend()
            return False
        return True

    try:
        wait_until(gave_up, 100.0, pause=0.02)
        assert (commands.folder / "any-worker-1.log").read_text().count("trialfleet: ") == 5
    finally:
        pool.stop()


def test_a_worker_of_another_version_is_refused(commands: Commands, database: Database) -> None:
    study = create(database)
    with database.transaction() as connection:
        connection.execute(text("UPDATE fleet.studies SET version = '99.0.0', compatibility = 99"))
    line = commands.run("worker", study.name, code=2).error_line
    assert "created by trialfleet 99.0.0" in line
    assert f"this is {study.version}" in line
    assert "Install the version" in line
    with database.transaction() as connection:
        assert connection.scalar(text("SELECT count(*) FROM fleet.attempts")) == 0
