"""What a report says in words: where it was trained, why trials ended, and the checklist."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from coordinator import audit, judged
from coordinator.answer import answer
from coordinator.audit import Audited
from coordinator.report.data import StudyData
from coordinator.status import steered
from trialfleet.search import space
from trialfleet.seeds import search_seeds
from trialfleet.study.spec import Spec
from trialfleet.study.task import Task


def machines(data: StudyData) -> list[dict[str, Any]]:
    """What trained how many trials: hardware, device, hosts and versions."""
    found: dict[str, dict[str, Any]] = {}
    for trial in (*data.search, *data.final):
        attributes = trial.user_attrs
        if "versions" not in attributes:
            continue
        what = {key: attributes.get(key, "?") for key in ("hardware", "device", "versions")}
        row = found.setdefault(
            json.dumps(what, sort_keys=True), {**what, "hosts": set(), "trials": 0}
        )
        row["trials"] += 1
        row["hosts"].add(str(attributes.get("host", "?")))
    rows = sorted(found.values(), key=lambda row: -row["trials"])
    return [{**row, "hosts": sorted(row["hosts"])} for row in rows]


def failures(data: StudyData) -> list[dict[str, Any]]:
    """The trials that failed, with their reasons, the latest first."""
    return [
        {
            "stage": stage,
            "number": trial.number,
            "reason": str(trial.user_attrs.get("reason", "no reason recorded")),
            "traceback": str(trial.user_attrs.get("traceback", "")),
            "worker": str(trial.user_attrs.get("worker", "?")),
        }
        for stage, trials in (("final", data.final), ("search", data.search))
        for trial in reversed(trials)
        if trial.state == TrialState.FAIL
    ]


def pruned(data: StudyData) -> list[FrozenTrial]:
    """The pruned trials, the latest first."""
    return [trial for trial in reversed(data.search) if trial.state == TrialState.PRUNED]


def why_pruned(trial: FrozenTrial) -> str:
    """Rule, value and threshold of a pruned trial, in a line."""
    verdict = trial.user_attrs.get("pruned_by")
    text = verdict.get("text") if isinstance(verdict, dict) else None
    return str(text or "not recorded")


def pruned_at(data: StudyData) -> list[tuple[int, int]]:
    """At which step how many trials were pruned."""
    steps = Counter(max(trial.intermediate_values, default=0) for trial in pruned(data))
    return sorted(steps.items())


def audited(data: StudyData) -> Audited | None:
    """What the pruned trials came to that were trained to their end."""
    scores = [
        trial.user_attrs["audit"].get("score")
        for trial in data.search
        if isinstance(trial.user_attrs.get("audit"), dict)
    ]
    completed = [trial.values[0] for trial in data.complete]
    return audit.compare(completed, scores, top=data.study.spec.final.top)


def search_space(data: StudyData) -> list[tuple[str, str, str]]:
    """A row for each hyperparameter: name, "fixed", "range" or "choices", and its values."""
    return space.describe(data.study.spec.agent)


def checklist(data: StudyData) -> list[tuple[str, str]]:
    """The reproducibility checklist of AutoRL, filled in.

    Its questions are those of Eimer, Lindauer and Raileanu, "Hyperparameters in Reinforcement
    Learning and How To Tune Them" (2023), in our words.
    """
    study, spec = data.study, data.study.spec
    task, search = spec.task, spec.search
    steps = "agent-steps" if task.objective is None else "steps"
    searched = len(spec.agent.searched())
    tuning = spec.handed(search_seeds(spec.seed, 0, task.seeds))
    fresh = [seed for row in data.finalists for seed in row.get("seeds", [])]
    if data.result and data.result.get("confirmation"):
        fresh = data.result["confirmation"]["seeds"]
    none_trained = "; none was trained" if study.ended else "; not trained yet"
    options = ", ".join(
        f"{key} = {value}"
        for key, value in search.sampler.model_dump(mode="json", exclude_none=True).items()
        if key != "name"
    )
    rows = [
        *_trained(task),
        (
            "Tuning method",
            f"{search.sampler.name} ({options or 'defaults'}); pruner {search.pruner.name}",
        ),
        (
            "Search space",
            f"{searched} searched and {len(list(spec.agent.items())) - searched} "
            "fixed hyperparameters, all in the study file below",
        ),
        (
            "Tuning budget",
            f"{study.asked:,} trials of {task.seeds} agents, at most "
            f"{study.asked * task.seeds * task.train_steps:,} {steps}; what was spent stands "
            f"under compute{''.join(f'; {line}' for line in steered(study))}",
        ),
        (
            "Tuning seeds",
            f"{task.seeds} agents a trial; derived from the study seed {spec.seed} "
            f"and the trial's number, all even; trial 0: {_some(tuning)}",
        ),
        (
            "Test seeds",
            f"{_test_seeds(spec)}, all odd, so "
            f"that none is a tuning seed{': ' + _some(fresh) if fresh else none_trained}",
        ),
        (
            "What is reported",
            f"judged by {judged.asked(spec)}; the mean "
            + (
                f"return over test seeds, {spec.final.episodes} greedy episodes each"
                if task.objective is None
                else "score over test seeds"
            )
            + f", {_interval(data)}; agents trained anew, none left out",
        ),
        (
            "Hardware",
            "; ".join(
                f"{row['hardware']} ({row['device']}), {row['trials']:,} trials"
                for row in machines(data)
            )
            or f"no trial has finished{'' if study.ended else ' yet'}",
        ),
        (
            "Code",
            f"Trialfleet {study.version}, compatibility {study.compatibility}; study digest "
            f"{study.digest[:16]}",
        ),
    ]
    return rows


def _interval(data: StudyData) -> str:
    if data.result is not None:
        found = answer(data.result)
        return found.interval_told
    return "with a 95% interval over seeds"


def _test_seeds(spec: Spec) -> str:
    final, agents = spec.final, spec.task.seeds
    each = "for the finalist" if final.top == 1 else f"for each of {final.top} finalists"
    if not spec.races:
        return f"{final.seeds} {each}"
    race = f"at most {final.blocks(agents) * final.block(agents)} {each}"
    return f"{race}; the answer is of the winner on {final.confirming_told}"


def _trained(task: Task) -> list[tuple[str, str]]:
    """What is trained, and by what."""
    if task.objective is not None:
        own = f"your own training; {task.train_steps:,} steps for each seed"
        return [("Task", f"{own}, reported every {task.eval_every:,}"), ("Algorithm", task.subject)]
    return [
        (
            "Task",
            f"{task.env}; {task.train_steps:,} environment steps for each agent, evaluated "
            f"every {task.eval_every:,} on {task.eval_episodes} episodes",
        ),
        (
            "Algorithm",
            f"{task.algorithm}; each agent's result is its networks at the "
            f"{'best of its evaluations' if task.keep == 'best' else 'end'}",
        ),
    ]


def _some(seeds: Iterable[int]) -> str:
    listed = list(seeds)
    return ", ".join(map(str, listed[:8])) + (" …" if len(listed) > 8 else "")
