"""Which arithmetic trained a trial is kept with it, and a replay uses the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from tests.support.inprocess import run_here
from tests.support.studies import create
from trialfleet.cli.replay import replay_trial
from trialfleet.settings import Settings
from trialfleet.store.storage import Database
from worker.provenance import hardware
from worker.resume import Checkpoints
from worker.trainers.dqn import compiled as machine_code

Open = Callable[[], Database]


@pytest.mark.parametrize("compiled", [True, False])
def test_a_replay_trains_as_the_worker_did(
    open_database: Open, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[object] = []
    for name in ("InWorld", "Learners"):
        original = getattr(machine_code, name)

        def noted(*args: Any, original: Callable[..., Any] = original, **kwargs: Any) -> Any:
            used.append(original)
            return original(*args, **kwargs)

        monkeypatch.setattr(machine_code, name, noted)
    portable: set[bool] = set()

    class Noted(Checkpoints):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            portable.add(kwargs["portable"])
            super().__init__(*args, **kwargs)

    monkeypatch.setattr("worker.attempt.Checkpoints", Noted)
    database = open_database()
    create(database, trials=2, top=1, final_seeds=2)
    run_here(open_database, settings=Settings(poll_seconds=0.05, compiled=compiled))
    (trial, *_) = database.optuna_study("trivial").get_trials()
    assert (trial.user_attrs["versions"]["numba"] != "none") is compiled
    assert bool(used) is compiled
    assert portable == {compiled}
    used.clear()
    console = Console(record=True, width=200)
    assert replay_trial(database, "trivial", 0, final=False, device=None, console=console)
    assert bool(used) is compiled
    assert "another build" not in console.export_text()
    # What is compiled does not depend on the maker's kernels.
    other = f"{hardware('cpu')} Other"
    monkeypatch.setattr("trialfleet.cli.replay.hardware", lambda _: other)
    assert replay_trial(database, "trivial", 0, final=False, device=None, console=console)
    assert ("another build, so bits may differ: hardware" in console.export_text()) is not compiled
