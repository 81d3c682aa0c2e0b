"""`trialfleet check`: a study file, understood, and what it will cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from coordinator.intervals import STUDENT_FROM
from coordinator.judged import asked
from coordinator.race.narrowing import Narrowing, narrowest, seeds_for
from trialfleet.checking.mistakes import FieldError
from trialfleet.cli.imports import search_beside
from trialfleet.cli.trying import Tried, try_task
from trialfleet.errors import StudyFileError
from trialfleet.search import space
from trialfleet.study.file import load
from trialfleet.study.final import Final
from trialfleet.study.spec import Spec


def load_checked(path: Path, changes: Sequence[str] = ()) -> tuple[Spec, Tried]:
    """The study of a file with the changes of `--set`, and what was found of what it trains.

    Raises:
        StudyFileError: Anything is wrong with it; a line for each mistake, with file and field.
    """
    spec = load(path, changes)
    search_beside(path)
    mistakes: list[str] = []
    tried = Tried()
    try:
        tried = try_task(spec.task)
    except StudyFileError as exc:
        mistakes += exc.lines
    try:
        spec.search.probe(spec)
    except FieldError as problem:
        mistakes += [f"{each.at}: {each.text}" for each in problem.each]
    if mistakes:
        raise StudyFileError(*(f"{path}: {each}" for each in mistakes))
    return spec, tried


def study_report(spec: Spec, tried: Tried | None) -> RenderableType:
    """The study as people read it; None: nothing of it was tried."""
    task, search, final = spec.task, spec.search, spec.final
    facts = Table.grid(padding=(0, 2))
    sampler = search.sampler.model_dump(exclude_none=True)
    pruner = search.pruner.model_dump(exclude_none=True)
    for name, value in {
        "study": f"{spec.name} (seed {spec.seed}, digest {spec.digest[:12]})",
        **_task(spec, tried),
        "objective": asked(spec),
        "returns": f"{spec.returns}" if spec.returns else "no bounds known (task.returns)",
        "search": f"{_trials(spec)}, sampler {_options(sampler)}, pruner {_options(pruner)}",
        "final": _final(spec),
    }.items():
        facts.add_row(Text(name, style="bold"), Text(value))
    table = Table(title="search space", title_justify="left")
    for column in ("knob", "kind", "values"):
        table.add_column(column)
    for knob, kind, values in space.describe(spec.agent):
        table.add_row(knob, kind, values, style="dim" if kind == "fixed" else None)
    per_trial = task.seeds * task.train_steps
    searching = spec.budget * per_trial
    finalists = min(final.top, spec.budget)
    seeds = finalists * final.seeds
    if spec.races:
        agents = task.seeds
        seeds = finalists * final.block(agents) * final.blocks(agents) + final.most_confirming
    retraining = seeds * task.train_steps
    steps = "agent-steps" if task.objective is None else "steps"
    pruned = "" if spec.search.pruner.name == "none" else " at most (pruning saves some)"
    cost = (
        f"cost: {spec.budget} trials × {task.seeds} seeds × {task.train_steps:,} steps = "
        f"{searching:,} {steps}{pruned}, and {retraining:,} in the "
        f"final stage{' at most (the race saves some)' if spec.races else ''}"
    )
    odd = [*(tried.warnings if tried else ()), *_out_of_reach(spec)]
    warnings = [Text(f"warning: {each}", style="yellow") for each in odd]
    return Group(facts, table, Text(cost), *warnings)


def _final(spec: Spec) -> str:
    """What the final stage is."""
    final, agents = spec.final, spec.task.seeds
    episodes = f" × {final.episodes} episodes" if spec.task.objective is None else ""
    top = min(final.top, spec.budget)
    if not spec.races:
        fixed = f"the best {top} × {final.seeds} fresh seeds{episodes}"
        why = "; no race, as the mean score alone does not decide" if final.race else ""
        return fixed + why
    confirmed = f"; then the winner × {_confirming(final)}" if final.confirm else ""
    blocks = final.blocks(agents)
    return (
        f"a race of the best {top} × at most {blocks} block{'' if blocks == 1 else 's'} of "
        f"{final.block(agents)} fresh seeds{episodes}, error {final.error:g}{confirmed}"
    )


def _confirming(final: Final) -> str:
    """The seeds of a confirmation."""
    if final.until is None:
        return f"{final.confirm} fresh seeds"
    return (
        f"fresh seeds until its 95% interval is {final.until.width:g} wide,"
        f" {final.until.most} at most"
    )


def _out_of_reach(spec: Spec) -> list[str]:
    """That the winner's interval cannot become as narrow as asked for, whatever seeds score."""
    narrowing = Narrowing.of(spec)
    if narrowing is None:
        return []
    least = narrowest(narrowing)
    if least is None:
        if narrowing.most >= STUDENT_FROM:
            return []
        return [
            f"final.confirm: without bounds of returns (task.returns) there is an interval of"
            f" {STUDENT_FROM} seeds or more, and most is {narrowing.most}"
        ]
    if least <= narrowing.width:
        return []
    return [
        f"final.confirm: with returns from {narrowing.returns} the interval of {narrowing.most}"
        f" seeds is {least:.3g} wide even if every seed scores the same, so {narrowing.width:g} is"
        f" out of reach; {seeds_for(narrowing)} seeds are the least for it"
    ]


def _trials(spec: Spec) -> str:
    """How many, and why fewer than asked for."""
    asked = spec.search.trials
    if spec.budget == asked:
        return f"{asked} trials"
    return f"{spec.budget} trials (of {asked} asked for: all configurations, each once)"


def _count(count: int, of: str) -> str:
    return f"{count} {of}{'' if count == 1 else 's'}"


def _task(spec: Spec, tried: Tried | None) -> dict[str, str]:
    """What is trained in a trial, and how long."""
    task = spec.task
    every = "step" if task.eval_every == 1 else f"{task.eval_every:,} steps"
    length = f"{task.seeds} {{}} × {task.train_steps:,} steps, {{}} every {every}"
    if task.objective is not None:
        return {"training": task.objective, "trial": length.format("seeds", "reported")}
    shape = "not tried"
    if tried is not None:
        shape = (
            f"{_count(tried.observation_size, 'observation')}, {_count(tried.actions, 'action')}, "
            f"episodes of at most {tried.max_episode_steps} steps"
        )
    return {
        "algorithm": task.algorithm,
        "task": f"{task.env}: {shape}",
        "trial": f"{length.format('agents', 'evaluated')} on {task.eval_episodes} episodes, scored "
        f"on {task.score_episodes}",
    }


def _options(options: dict[str, object]) -> str:
    """A sampler or pruner, and the one behind it, as people write them."""
    name = options.pop("name")
    shown = ", ".join(
        f"{key}={_options(value) if isinstance(value, dict) and 'name' in value else value}"
        for key, value in options.items()
        if value != {}
    )
    return f"{name} ({shown})" if shown else str(name)
