"""Soak a study: many workers, and a seeded schedule of kills, stalls and database restarts.

python -m benchmarks.soak --workers 16 --trials 1000 --kills 200 --restarts 3

Everything runs for real: an embedded PostgreSQL of its own, `trialfleet coordinate`, `trialfleet
worker` processes that train tiny agents, and a supervisor that starts dead processes again. At the
end the rows and the workers' logs are held against each other.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType

from benchmarks.schedule import KINDS, make_schedule
from benchmarks.soak_drive import Report, System, soak


def percentile(values: list[float], share: float) -> float | None:
    """The smallest value that at least this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)] if ordered else None


def table(reports: list[Report], *, trials: int, workers: int, lease: float) -> str:
    """All the reports, a column each, and the notes below."""
    rows: list[tuple[str, list[str]]] = [
        ("", [report.name for report in reports]),
        ("workers, trials wanted, lease", [f"{workers}, {trials}, {lease:g} s" for _ in reports]),
        *_rows(reports, trials=trials),
    ]
    first = max(len(label) for label, _ in rows)
    width = max(len(cell) for _, cells in rows for cell in cells)
    lines = [
        f"{label:{first}}  " + "  ".join(f"{cell:>{width}}" for cell in cells)
        for label, cells in rows
    ]
    for report in reports:
        lines += [f"{report.name}: {note}" for note in _notes(report)]
    return "\n".join(lines)


def _rows(reports: list[Report], *, trials: int) -> list[tuple[str, list[str]]]:
    verdicts = [report.verdict for report in reports]
    rows = [
        ("trials that count", [f"{v.counted}" for v in verdicts]),
        ("rows", [f"{v.rows}" for v in verdicts]),
        ("  of these FAIL", [f"{v.failed}" for v in verdicts]),
        ("  of these added by retries", [f"{v.retry_rows}" for v in verdicts]),
    ]
    rows += [
        (text, [f"{report.hits[kind]} of {report.planned[kind]}" for report in reports])
        for kind, text in KINDS.items()
    ]
    rows += [
        ("worker kills that hit a trial", [f"{v.held['kill']}" for v in verdicts]),
        ("stalls that hit a trial", [f"{v.held['stall']}" for v in verdicts]),
        ("worker starts", [f"{report.starts}" for report in reports]),
        ("processes that crashed by themselves", [f"{len(r.crashes)}" for r in reports]),
        ("attempts that took a trial up again", [f"{v.retried}" for v in verdicts]),
        ("  of these from a checkpoint", [f"{v.resumed}" for v in verdicts]),
        ("lost", [f"{v.lost}" for v in verdicts]),
        ("double-counted", [f"{v.double}" for v in verdicts]),
        ("  of these beyond the budget", [f"{max(0, v.counted - trials)}" for v in verdicts]),
        ("stuck", [f"{v.stuck}" for v in verdicts]),
        ("kill to recovered, p50 / p95 / max s", [_spread(v.recoveries) for v in verdicts]),
        ("stall to recovered, p50 / p95 / max s", [_spread(v.stall_recoveries) for v in verdicts]),
        ("never recovered", [f"{_unrecovered(report)}" for report in reports]),
        ("ended by itself", ["yes" if report.ended else "no" for report in reports]),
        ("wall seconds", [f"{report.seconds:.0f}" for report in reports]),
    ]
    return rows


def _spread(seconds: list[float]) -> str:
    found = (percentile(seconds, share) for share in (0.5, 0.95, 1.0))
    return " / ".join("-" if each is None else f"{each:.1f}" for each in found)


def _unrecovered(report: Report) -> int:
    verdict = report.verdict
    measured = len(verdict.recoveries) + len(verdict.stall_recoveries)
    return verdict.held["kill"] + verdict.held["stall"] - measured


def _notes(report: Report) -> list[str]:
    crashes = Counter(report.crashes).most_common()
    notes = [f"crashed by themselves: {times} × {words}" for words, times in crashes]
    if not report.ended:
        notes.append("given up at the timeout")
    return notes + report.verdict.notes


def sound(report: Report) -> bool:
    """Whether nothing was lost, counted twice or left hanging."""
    verdict = report.verdict
    return report.ended and not (verdict.lost or verdict.double or verdict.stuck)


def main() -> int:
    """Print the table; the exit code is 1 if Trialfleet lost, double-counted or left anything."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description="Kill, stall and restart a running study's processes, and see what it lost.",
        epilog="example: python -m benchmarks.soak --workers 16 --trials 1000 --kills 200 "
        "--restarts 3 --baseline optuna",
    )
    add = parser.add_argument
    add("--workers", type=int, default=16, help="worker processes (default: %(default)s)")
    add("--trials", type=int, default=1000, help="the study's budget (default: %(default)s)")
    add("--kills", type=int, default=200, help="of processes, stalls too (default: %(default)s)")
    add("--restarts", type=int, default=3, help="of PostgreSQL (default: %(default)s)")
    add("--seed", type=int, default=0, help="of schedule and study (default: %(default)s)")
    add("--lease", type=float, default=10.0, help="seconds (default: %(default)s)")
    add("--timeout", type=float, default=1800.0, help="seconds for each (default: %(default)s)")
    add("--baseline", choices=["optuna"], help="put plain Optuna through the same schedule, too")
    add("--logs", type=Path, help="new folder to keep logs and rows in (default: a temporary one)")
    options = parser.parse_args()
    if options.workers < 1 or options.trials < 1 or options.lease < 1:
        parser.error("--workers, --trials and --lease must be at least 1")
    if options.kills < 0 or options.restarts < 0:
        parser.error("--kills and --restarts must not be negative")
    signal.signal(signal.SIGTERM, _interrupt)
    logs = options.logs or Path(tempfile.mkdtemp(prefix="soak-logs-"))
    study = {"trials": options.trials, "seed": options.seed, "lease": options.lease}
    systems = _systems(options.baseline, study)
    schedule = make_schedule(kills=options.kills, restarts=options.restarts, seed=options.seed)
    reports: list[Report] = []
    try:
        for folder, system in systems.items():
            report = soak(
                system,
                schedule,
                workers=options.workers,
                trials=options.trials,
                lease=options.lease,
                timeout=options.timeout,
                logs=(logs / folder).resolve(),
            )
            reports.append(report)
    except KeyboardInterrupt:
        print("soak: stopped; every process it had started is gone", file=sys.stderr)
        return 130
    finally:
        if reports:
            sizes = {"trials": options.trials, "workers": options.workers}
            print(table(reports, lease=options.lease, **sizes), flush=True)
        print(f"logs and rows: {logs}", file=sys.stderr)
    return 0 if sound(reports[0]) else 1


def _systems(baseline: str | None, study: dict[str, object]) -> dict[str, System]:
    from benchmarks.soak_trialfleet import Trialfleet

    systems: dict[str, System] = {"trialfleet": Trialfleet(**study)}  # type: ignore[arg-type]
    if baseline == "optuna":
        from benchmarks.soak_optuna import PlainOptuna

        systems["optuna"] = PlainOptuna(**study)  # type: ignore[arg-type]
    return systems


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
