"""A study as rich draws it, at one moment."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from coordinator.status import Snapshot, segment, steered
from trialfleet.cli.show.fitting import Fitting, as_lines
from trialfleet.escape import printable
from trialfleet.store.studies import Study


def picture(shot: Snapshot) -> RenderableType:
    """A study as rich draws it."""
    study, search = shot.study, shot.search
    rows: list[RenderableType] = [
        Text.assemble((study.name, "bold"), f"  {study.stage}  {duration(study.seconds)}")
    ]
    final = shot.final
    stages = [
        (
            "search",
            search.counted - study.imported,
            study.asked,
            f"{search.counted - study.imported}/{study.asked}",
            f"{search.complete - study.imported} complete  {search.pruned} pruned  "
            f"{search.failed} failed  {search.running} running  {search.waiting} waiting",
        ),
        (
            "final",
            final.counted if final else 0,
            shot.final_trials if study.ended or not study.spec.races else shot.final_most,
            shot.final_told,
            f"{final.running} running" if final else "",
        ),
    ]
    bars = Table.grid(padding=(0, 2))
    lines = []
    for stage, done, total, told, states in stages:
        bar = ProgressBar(total=total, completed=done, width=40)
        bars.add_row(stage, bar, told, states)
        lines.append(f"{stage} {told}  {states}".rstrip())
    rows.append(Fitting(bars, Text("\n".join(lines))))
    facts = []
    if shot.race is not None:
        rows.append(Text(shot.race.told))
    if shot.best_told is not None:
        facts.append(shot.best_told)
    facts.append(f"{shot.steps_per_second:,.0f} {_steps(study)}/s")
    if shot.eta is not None:
        facts.append(f"about {duration(shot.eta)} left")
    rows.append(Text("   ".join(facts)))
    if shot.lost:
        rows.append(Text(f"attempts lost with their workers: {shot.lost}"))
    rows += [
        Text(f"{each.stage} trial {each.number} failed: {printable(each.reason or 'no reason')}")
        for each in shot.failures
    ]
    rows += [Text(printable(line), style="bold") for line in steered(study)]
    if study.reason is not None:
        rows.append(Text(printable(study.reason), style="bold"))
    rows.append(worker_table(shot))
    return Group(*rows)


def worker_table(shot: Snapshot) -> RenderableType:
    """A line per live worker; its name begins with its host's."""
    columns = ("worker", "trial", "segment", "step", f"{_steps(shot.study)}/s", "last heard")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, justify="left" if column == "worker" else "right")
    task = shot.study.spec.task
    rows = []
    for worker in shot.workers:
        idle = worker.trial is None
        rows.append(
            (
                printable(worker.name),
                "idle" if idle else str(worker.trial),
                "" if idle else f"{segment(task, worker.step)}/{task.segments}",
                "" if idle else f"{worker.step:,}/{task.train_steps:,}",
                "" if idle else f"{worker.steps_per_second:,.0f}",
                f"{worker.silent:.0f} s ago",
            )
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return Fitting(table, as_lines(columns, rows))


def _steps(study: Study) -> str:
    """What is counted: a training of the user's own has no agents."""
    return "agent-steps" if study.spec.task.objective is None else "steps"


def duration(seconds: float) -> str:
    """Seconds as a person would say them: 42 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
