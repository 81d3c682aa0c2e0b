"""The soak's schedule, its arithmetic, and one small run of it with everything real."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.schedule import Fault, Kind, by_kind, make_schedule
from benchmarks.soak import percentile, sound, table
from benchmarks.soak_drive import Report, Verdict
from benchmarks.soak_fleet import ROOT


def test_a_schedule_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    first = make_schedule(kills=200, restarts=3, seed=0)
    assert first == make_schedule(kills=200, restarts=3, seed=0)
    assert first != make_schedule(kills=200, restarts=3, seed=1)


@pytest.mark.parametrize(
    ("kills", "restarts", "expected"),
    [
        (0, 0, {}),
        (1, 0, {"kill": 1}),
        (3, 1, {"kill": 3, "immediate": 1}),
        (4, 1, {"kill": 2, "stall": 1, "coordinator": 1, "immediate": 1}),
        (
            200,
            3,
            {"kill": 170, "stall": 20, "coordinator": 10, "immediate": 2, "fast": 1},
        ),
    ],
)
def test_a_schedule_has_as_many_faults_of_each_kind_as_asked_for(
    kills: int, restarts: int, expected: dict[Kind, int]
) -> None:
    assert by_kind(make_schedule(kills=kills, restarts=restarts, seed=5)) == Counter(expected)


def test_faults_are_in_order_and_spread_over_the_whole_study() -> None:
    faults = make_schedule(kills=100, restarts=4, seed=2)
    instants = [fault.at for fault in faults]
    assert instants == sorted(instants)
    assert all(0 <= fault.at < 1 and 0 <= fault.draw < 1 for fault in faults)
    kills = [fault.at for fault in faults if fault.kind in ("kill", "stall", "coordinator")]
    restarts = [fault.at for fault in faults if fault.kind in ("immediate", "fast")]
    for instants in (kills, restarts):
        quarters = Counter(int(at * 4) for at in instants)
        assert {*quarters} == {0, 1, 2, 3}
        assert max(quarters.values()) <= len(instants) / 4 + 2


def test_kinds_do_not_come_in_blocks() -> None:
    kinds = [fault.kind for fault in make_schedule(kills=200, restarts=0, seed=0)]
    first_half = Counter(kinds[:100])
    assert 0 < first_half["stall"] < 20
    assert 0 < first_half["coordinator"] < 10


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.5, None),
        ([3.0], 0.5, 3.0),
        ([3.0], 1.0, 3.0),
        ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 0.51, 3.0),
        ([float(i) for i in range(1, 101)], 0.95, 95.0),
        ([float(i) for i in range(1, 101)], 1.0, 100.0),
    ],
)
def test_percentile(values: list[float], share: float, expected: float | None) -> None:
    assert percentile(values, share) == expected


def report(*, lost: int = 0, double: int = 0, stuck: int = 0, ended: bool = True) -> Report:
    schedule = [Fault(at=0.5, kind="kill", draw=0.5)]
    return Report(
        name="Trialfleet",
        hits=by_kind(schedule),
        planned=by_kind(schedule),
        starts=3,
        crashes=["ValueError: Cannot tell a FAIL trial."],
        ended=ended,
        seconds=12.3,
        verdict=Verdict(
            counted=10,
            rows=11,
            failed=1,
            retry_rows=0,
            lost=lost,
            double=double,
            stuck=stuck,
            held=Counter({"kill": 1}),
            retried=1,
            resumed=1,
            recoveries=[2.04],
            stall_recoveries=[],
            notes=["as expected"],
        ),
    )


def test_a_report_is_sound_only_if_nothing_was_lost_doubled_or_left() -> None:
    assert sound(report())
    wrong = (report(lost=1), report(double=1), report(stuck=1), report(ended=False))
    assert not any(sound(each) for each in wrong)


def test_the_table_has_a_column_for_each_and_names_crashes() -> None:
    lines = table([report(), report(stuck=2)], trials=10, workers=2, lease=2.0).splitlines()
    cells = {line[:40].strip(): line.split() for line in lines}
    assert cells["stuck"][-2:] == ["0", "2"]
    assert cells["worker kill -9"][-6:] == ["1", "of", "1"] * 2
    assert "2.0 / 2.0 / 2.0" in next(line for line in lines if line.startswith("kill to recovered"))
    assert "Trialfleet: crashed by themselves: 1 × ValueError: Cannot tell a FAIL trial." in lines


@pytest.mark.slow
def test_a_small_soak_loses_nothing(tmp_path: Path) -> None:
    command = "-m benchmarks.soak --workers 3 --trials 30 --kills 4 --restarts 1 --lease 2"
    done = subprocess.run(
        [sys.executable, *command.split(), "--timeout", "90", "--logs", str(tmp_path / "logs")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    cells = {line[:40].strip(): line.split() for line in done.stdout.splitlines()}
    assert done.returncode == 0, done.stdout + done.stderr
    assert cells["trials that count"][-1] == "30"
    for row in ("lost", "double-counted", "stuck"):
        assert cells[row][-1] == "0"
    assert cells["ended by itself"][-1] == "yes"
