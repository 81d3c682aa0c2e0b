"""Workers that do not agree with the database on the study: row 23 of the faults."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.environments import ENV
from tests.faults.fleet import STEERED, STUDY, Fleet
from tests.support.studies import (
    trivial_spec,
    trivial_study,
)
from trialfleet.store import studies


def another_version(fleet: Fleet) -> list[str]:
    study = studies.find(fleet.database, STUDY)
    fleet.execute("UPDATE fleet.studies SET version = '99.0.0'")
    return ["created by trialfleet 99.0.0", f"this is {study.version}", "Install the version"]


def another_reading(fleet: Fleet) -> list[str]:
    # As a version would leave it that knows another default, or writes its JSON another way.
    study = studies.find(fleet.database, STUDY)
    fleet.execute("UPDATE fleet.studies SET digest = :other", other="0123456789abcdef" * 4)
    return [
        f"stored by trialfleet {study.version} with the digest 0123456789ab",
        f"this {study.version} reads it as {study.digest[:12]}",
        "Install the version",
    ]


def another_spec(fleet: Fleet) -> list[str]:
    # Somebody has changed the study itself behind the digest's back.
    study = studies.find(fleet.database, STUDY)
    other = trivial_spec(env=ENV, trials=9)
    fleet.execute("UPDATE fleet.studies SET spec = :spec", spec=other.to_json())
    return [f"with the digest {study.digest[:12]}", f"reads it as {other.digest[:12]}"]


def a_newer_spec(fleet: Fleet) -> list[str]:
    fleet.execute("UPDATE fleet.studies SET spec = replace(spec, '\"gamma\"', '\"gama\"')")
    return ["the study as stored: agent.gama: unknown key", "Install the version"]


@pytest.mark.parametrize(
    "change",
    [another_version, another_reading, another_spec, a_newer_spec],
    ids=lambda change: change.__name__,
)
def test_23_a_worker_that_does_not_agree_on_the_study_is_refused(
    fleet: Fleet, change: Callable[[Fleet], list[str]]
) -> None:
    fleet.create(trials=1)
    says = change(fleet)
    worker = fleet.worker()
    assert worker.ends() == 2, worker.output
    [line] = worker.output.splitlines()
    for words in says:
        assert words in line
    assert fleet.attempts() == []
    assert fleet.rows("SELECT * FROM fleet.workers") == []


def test_23_a_worker_with_another_study_file_is_refused_with_both_digests(fleet: Fleet) -> None:
    study = fleet.create(trials=1)
    (fleet.folder / "other.toml").write_text(trivial_study(), encoding="utf-8")
    worker = fleet.start("worker", "other.toml", name="other")
    assert worker.ends() == 2, worker.output
    [line] = worker.output.splitlines()
    other = trivial_spec()
    assert f"digest {study.digest[:12]} there, {other.digest[:12]} here" in line
    assert f'task.env: "{study.spec.task.env}" there, "CartPole-v1" here' in line
    assert "restore the file" in line
    assert fleet.attempts() == []


def test_23_a_worker_with_the_studys_own_file_works(fleet: Fleet) -> None:
    fleet.create(trials=1)
    # The same content; a digest does not depend on how it is written.
    content = trivial_study(**{**STEERED, "trials": 1})
    (fleet.folder / "same.toml").write_text(f"# a comment\n{content}", encoding="utf-8")
    worker = fleet.start("worker", "same.toml", name="same")
    fleet.ends()
    assert worker.ends() == 0, worker.output
