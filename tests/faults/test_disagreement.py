"""Workers that do not agree with the database on the study: row 23 of the faults."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import pytest

from tests.faults.environments import ENV
from tests.faults.fleet import STEERED, STUDY, Fleet
from tests.support.studies import (
    trivial_spec,
    trivial_study,
)
from trialfleet import COMPATIBILITY, __version__
from trialfleet.store import studies
from trialfleet.study import formats


def another_compatibility(fleet: Fleet) -> list[str]:
    fleet.execute("UPDATE fleet.studies SET version = '99.0.0', compatibility = 99")
    return [
        "created by trialfleet 99.0.0 (compatibility 99)",
        f"this is {__version__} (compatibility {COMPATIBILITY})",
        "Install the version",
    ]


def another_spec(fleet: Fleet) -> list[str]:
    # Somebody has changed the study itself behind the digest's back.
    study = studies.find(fleet.database, STUDY)
    other = trivial_spec(env=ENV, trials=9)
    fleet.execute("UPDATE fleet.studies SET spec = :spec", spec=other.to_json())
    return [f"has the digest {other.digest[:12]}", f"created from one with {study.digest[:12]}"]


def a_newer_spec(fleet: Fleet) -> list[str]:
    stored = studies.find(fleet.database, STUDY).stored.replace('"gamma"', '"gama"')
    fleet.execute(
        "UPDATE fleet.studies SET spec = :spec, digest = :digest",
        spec=stored,
        digest=formats.digest(stored),
    )
    return ["the study as stored: agent.gama: unknown key", "Install the version"]


def a_newer_format(fleet: Fleet) -> list[str]:
    stored = studies.find(fleet.database, STUDY).stored
    stored = stored.replace(f'"format":{formats.FORMAT}', '"format":99')
    fleet.execute(
        "UPDATE fleet.studies SET spec = :spec, digest = :digest",
        spec=stored,
        digest=formats.digest(stored),
    )
    return [f"format 99, this version reads formats 1 to {formats.FORMAT}", "Install the version"]


@pytest.mark.parametrize(
    "change",
    [another_compatibility, another_spec, a_newer_spec, a_newer_format],
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


def test_23_a_worker_with_another_study_file_is_refused_with_the_differences(fleet: Fleet) -> None:
    study = fleet.create(trials=1)
    (fleet.folder / "other.toml").write_text(trivial_study(), encoding="utf-8")
    worker = fleet.start("worker", "other.toml", name="other")
    assert worker.ends() == 2, worker.output
    [line] = worker.output.splitlines()
    assert f'task.env: "{study.spec.task.env}" there, "CartPole-v1" here' in line
    assert "restore the file" in line
    assert fleet.attempts() == []


def test_23_a_worker_with_the_studys_own_file_works(fleet: Fleet) -> None:
    fleet.create(trials=1)
    # The same content, however it is written.
    content = trivial_study(**{**STEERED, "trials": 1})
    (fleet.folder / "same.toml").write_text(f"# a comment\n{content}", encoding="utf-8")
    worker = fleet.start("worker", "same.toml", name="same")
    fleet.ends()
    assert worker.ends() == 0, worker.output


def test_23_a_patch_release_finishes_a_running_study(fleet: Fleet) -> None:
    fleet.create(trials=1)
    fleet.execute("UPDATE fleet.studies SET version = '0.2.99'")
    worker = fleet.worker()
    coordinator = fleet.coordinator(trials=1)
    assert worker.ends() == 0, worker.output
    assert coordinator.ends() == 0, coordinator.output
    [seen] = fleet.rows("SELECT version FROM fleet.workers")
    assert seen.version == __version__


def test_23_a_coordinator_of_another_compatibility_is_refused(fleet: Fleet) -> None:
    fleet.create(trials=1)
    says = another_compatibility(fleet)
    coordinator = fleet.coordinator(trials=1)
    assert coordinator.ends() == 2, coordinator.output
    [line] = coordinator.output.splitlines()
    for words in says:
        assert words in line


def test_23_a_study_that_cannot_be_read_is_one_line_of_status(fleet: Fleet) -> None:
    fleet.create(trials=1)
    a_newer_format(fleet)
    fleet.execute("UPDATE fleet.studies SET name = 'newer'")
    fleet.execute("UPDATE public.studies SET study_name = 'newer'", steering=True)
    line = f"search  study 'newer', created by trialfleet {__version__}, cannot be read by"
    alone = fleet.start("status")
    assert alone.ends() == 0, alone.output
    assert alone.output.startswith(line)
    fleet.create(trials=1)
    both = fleet.start("status")
    assert both.ends() == 0, both.output
    first, second = both.output.splitlines()
    assert first.startswith(line)
    assert "0/1 trials" in second
    as_json = fleet.start("status", "--json")
    assert as_json.ends() == 0, as_json.output
    first, second = json.loads(as_json.output)
    assert "format 99" in first["unreadable"]
    assert second["study"] == STUDY
    named = fleet.start("status", "newer")
    assert named.ends() == 2, named.output
    assert "format 99" in named.output
    # A worker without a name works for the one that it can read.
    nameless = fleet.start("worker", name="nameless")
    fleet.ends()
    nameless.send(signal.SIGTERM)  # nothing else ends it: more studies may come
    assert nameless.ends() == 143, nameless.output
