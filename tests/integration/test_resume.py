"""Checkpoints: who may go on from one, and who has taken part."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.support.inprocess import run_here
from tests.support.studies import create, take
from trialfleet.artifacts.stores import open_store
from trialfleet.store import leases
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from worker.configuration import open_trial
from worker.provenance import Provenance, hardware, versions
from worker.resume import Checkpoints
from worker.trainers.dqn.trainer import Training
from worker.trainers.protocol import Evaluation, Event
from worker.trainers.registry import algorithm


class Counter:
    """A trainer that has counted to a number."""

    portable = False

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def run(self) -> Generator[Event, None, None]:
        yield from ()

    def state(self) -> dict[str, NDArray[Any]]:
        # Part of a larger array, as a memory that is not full is; and a number, as Adam's step is.
        part = np.array([[0, -1], [self.count, -1]])[:, 0]
        return {"count": part, "updates": np.array(self.count)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        assert (state["count"].shape, state["updates"].shape) == ((2,), ())
        self.count = int(state["count"][1])

    def result(self) -> dict[str, NDArray[Any]]:
        return self.state()

    def close(self) -> None:
        return


FIRST = Provenance(worker="first", host="one", device="cpu", hardware="x86_64", versions=versions())
SECOND = replace(FIRST, worker="second", host="two")


def checkpoints_of(
    database: Database,
    study: Study,
    claim: Claim,
    provenance: Provenance,
    *,
    portable: bool = False,
) -> Checkpoints:
    store = open_store(study.artifacts, database)
    return Checkpoints(
        database, store, study, claim, provenance=provenance, portable=portable, every=0.0
    )


def stored(database: Database) -> tuple[Study, Claim]:
    """A trial with a checkpoint at step 16 by the first worker, who had counted to 7."""
    study = create(database, train_steps=64)
    claim = take(database)
    first = checkpoints_of(database, study, claim, FIRST)
    assert first.restore(Counter()) == 0
    first.take(Counter(7), 16)
    first.save()
    return study, claim


def test_whoever_took_part_is_known_to_the_next(database: Database) -> None:
    study, claim = stored(database)
    second, trainer = checkpoints_of(database, study, claim, SECOND), Counter()
    assert second.restore(trainer) == 16
    assert trainer.count == 7
    assert [each["worker"] for each in second.trained_by] == ["first", "second"]
    second.take(Counter(9), 32)
    second.save()
    third = checkpoints_of(database, study, claim, replace(FIRST, worker="third"))
    assert third.restore(trainer) == 32
    assert [each["worker"] for each in third.trained_by] == ["first", "second", "third"]
    assert third.trained_by[1]["host"] == "two"


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (replace(SECOND, device="cuda"), "device cpu there, cuda here"),
        (replace(SECOND, hardware="arm64"), "hardware x86_64 there, arm64 here"),
        (replace(SECOND, versions={**versions(), "torch": "9"}), "torch"),
        (replace(SECOND, versions={**versions(), "numpy": "9"}), "numpy"),
        (replace(SECOND, versions=versions(compiled=False)), "numba 0"),
        (replace(SECOND, versions={**versions(), "arithmetic": "other"}), "other here"),
        (replace(SECOND, versions={**versions(), "libc": "glibc 9"}), "libc"),
        (replace(SECOND, versions={**versions(), "compatibility": "9"}), "compatibility"),
    ],
    ids=["device", "hardware", "torch", "numpy", "numba", "arithmetic", "libc", "compatibility"],
)
def test_a_checkpoint_of_another_build_is_not_gone_on_from(
    database: Database, other: Provenance, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Gone on with, the result would be neither build's, and no replay could repeat it."""
    study, claim = stored(database)
    checkpoints, trainer = checkpoints_of(database, study, claim, other), Counter()
    assert checkpoints.restore(trainer) == 0
    assert trainer.count == 0
    assert [each["worker"] for each in checkpoints.trained_by] == ["second"]
    output = capfd.readouterr()
    assert says in output.out + output.err
    # It is forgotten for good.
    assert checkpoints_of(database, study, claim, FIRST).restore(trainer) == 0


@pytest.mark.parametrize(
    ("other", "sums", "goes_on"),
    [
        ("x86_64 GenuineIntel AVX2 Haswell", "fused", True),
        ("x86_64 GenuineIntel AVX2 Haswell", "separate", False),
        ("aarch64 DEFAULT neoversev1", "fused", False),
    ],
)
def test_a_portable_training_goes_on_with_another_makers_processor(
    database: Database, other: str, sums: str, goes_on: bool
) -> None:
    """Spot machines come as they are; a trial need not start over because one is Intel's."""
    study, claim = create(database, train_steps=64), take(database)
    amd = replace(
        FIRST,
        hardware="x86_64 AuthenticAMD AVX512 SkylakeX",
        versions={**versions(), "arithmetic": "fused"},
    )
    first = checkpoints_of(database, study, claim, amd, portable=True)
    first.take(Counter(7), 16)
    first.save()
    second = replace(SECOND, hardware=other, versions={**versions(), "arithmetic": sums})
    trainer = Counter()
    reached = checkpoints_of(database, study, claim, second, portable=True).restore(trainer)
    assert (reached, trainer.count) == ((16, 7) if goes_on else (0, 0))


def test_what_does_not_decide_bits_may_differ(database: Database) -> None:
    study, claim = stored(database)
    newer = replace(SECOND, versions={**versions(), "optuna": "9", "python": "9"})
    assert checkpoints_of(database, study, claim, newer).restore(Counter()) == 16


def test_a_trial_whose_checkpoint_is_refused_starts_with_nothing_of_it(
    open_database: Callable[[], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even with what a trainer has loaded before it found out."""
    database = open_database()
    whole, other = (
        create(database, name=name, train_steps=48, trials=1, top=1, final_seeds=1)
        for name in ("whole", "other")
    )
    run_here(open_database, "whole")
    claim = take(database, "other")
    opened = open_trial(
        database, other, claim, storage=database.optuna_storage(claim.fence), compiled=True
    )
    trainer = algorithm("dqn").make_trainer(replace(opened.job, seeds=[7, 8]))
    events = trainer.run()
    while not isinstance(event := next(events), Evaluation):
        pass
    here = Provenance(
        worker="hand", host="here", device="cpu", hardware=hardware("cpu"), versions=versions()
    )
    checkpoints = checkpoints_of(database, other, claim, here, portable=trainer.portable)
    checkpoints.take(trainer, event.step)
    checkpoints.save()
    leases.release(database, claim)
    monkeypatch.setattr(Training, "load_state", half_loaded)
    run_here(open_database, "other")
    first, second = (
        database.optuna_study(study.name).get_trials()[0].user_attrs for study in (whole, other)
    )
    assert second["scores"] == first["scores"]
    assert len(second["trained_by"]) == 1


def half_loaded(self: Training, state: Mapping[str, NDArray[Any]]) -> None:
    """What a trainer must not do."""
    self._agent.online.flat.copy_(torch.from_numpy(state["agent.online"]))
    raise ValueError("no more than that")
