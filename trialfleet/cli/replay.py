"""Doing it again: a stored trial, the decisions of a race, or fresh episodes with an agent."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from coordinator.race.replaying import replay_decisions
from trialfleet.cli.agent.model import load_model
from trialfleet.cli.extras import needs
from trialfleet.errors import UsageError
from trialfleet.search import space
from trialfleet.search.marks import imported_from
from trialfleet.store import metrics, studies
from trialfleet.store.storage import Database
from trialfleet.study.measures import as_score, decimal
from trialfleet.study.spec import Spec
from worker.configuration import make_job
from worker.measuring import Measuring, Taken, wanted
from worker.provenance import NONE, find_device, hardware, machine, versions
from worker.trainers.environment import Environment
from worker.trainers.protocol import WALL_CLOCK, Evaluation, Score
from worker.trainers.registry import algorithm, saved_agents
from worker.trainers.threads import use_one_blas_thread, use_one_thread


def evaluate_model(path: Path, *, episodes: int, seed: int) -> str:
    """Play `episodes` greedy episodes with a saved agent; a line that says how it did.

    Raises:
        UsageError: The file is no saved agent, or one for another environment.
    """
    arrays, manifest = load_model(path)
    task = manifest["task"]
    env = Environment.of_task(task)
    use_one_blas_thread()
    try:
        playing = saved_agents(task.get("algorithm", "dqn")).play_saved
        returns = playing(arrays, env, seed=seed, episodes=episodes)  # [E]
    except ValueError as exc:
        raise UsageError(f"{path}: {exc}") from exc
    mean = float(returns.mean())
    return (
        f"{env}: mean return {as_score(mean)} ± {as_score(returns.std(), like=mean)}"
        f" over {episodes} episodes (lowest {as_score(returns.min(), like=mean)},"
        f" highest {as_score(returns.max(), like=mean)})"
    )


def replay_trial(
    database: Database,
    name: str,
    number: int,
    *,
    final: bool,
    device: str | None,
    console: Console,
) -> bool:
    """Train a finished trial again and compare every evaluation; whether all bits agree.

    Args:
        database: Of this process.
        name: The study's.
        number: Optuna's, of the trial.
        final: Whether it is one of the final stage.
        device: Where to train; None: on the kind of device it was trained on.
        console: Where to tell how it goes.

    Raises:
        UsageError: There is no such trial, it has no result to compare with, or there is no such
            device here.
    """
    study = studies.find(database, name)
    optuna_name = study.final_name if final else study.name
    study_id = study.final_id if final else study.search_id
    if study_id is None:
        raise UsageError(f"study {name!r} has no final stage yet")
    trials = database.trials(study_id)
    if number >= len(trials):
        raise UsageError(f"study {optuna_name!r} has no trial {number}; it has {len(trials)}")
    trial = trials[number]
    if origin := imported_from(trial.user_attrs):
        raise UsageError(
            f"trial {number} of {optuna_name!r} was imported ({origin}); no worker has trained it,"
            f" so there is nothing to repeat; `trialfleet enqueue {name}` has its values trained"
        )
    if "scores" not in trial.user_attrs:
        raise UsageError(f"trial {number} of {optuna_name!r} is {trial.state.name}: no result")
    stored = {
        name: dict(curve)
        for name, curve in metrics.read_trial(database, trial._trial_id).items()
        if name not in WALL_CLOCK
    }
    last = max(stored["return"])
    with needs("worker"):
        use_one_thread()
    device = _device(trial, device)
    compiled = trial.user_attrs["versions"].get("numba", NONE) != NONE
    here = {**versions(compiled=compiled), "device": device, "hardware": hardware(device)}
    task = study.spec.task
    knobs, seeds = space.decode(trial.params, study.spec.agent), trial.user_attrs["seeds"]
    job = make_job(
        study,
        knobs,
        seeds,
        final=final,
        device=device,
        compiled=here["numba"] != NONE,
        lanes=trial.user_attrs.get("lanes", 1),
    )
    trainer = algorithm(task.algorithm).make_trainer(job)
    _say_if_built_differently(trial, here, console, portable=trainer.portable)
    equal, scores, taken = True, None, None
    measuring = Measuring(study.spec)
    # A pruned trial of the pruning audit was trained to its end, too.
    audit = trial.user_attrs.get("audit", {}).get("scores")
    with closing(trainer):
        for event in trainer.run():
            if isinstance(event, Evaluation) and event.step <= last:
                measuring.add(event)
                wrong = _differences(stored, event)
                equal = equal and not wrong
                console.print(_line(event.step, stored["return"], event.metrics["return"], wrong))
                if trial.state == TrialState.PRUNED and event.step == last:
                    scores = event.metrics["return"].tolist()
                    taken = measuring.take(
                        trainer, event.metrics["return"], event.step, pruned=True
                    )
                    if audit is None:
                        break
            elif isinstance(event, Score):
                if audit is None:
                    scores = event.returns.tolist()
                    taken = measuring.take(trainer, event.returns, event.step)
                else:
                    wrong = [] if event.returns.tolist() == audit else ["audit"]
                    equal = equal and not wrong
                    console.print("trained on after it was pruned:")
                    console.print(_line(event.step, {event.step: audit}, event.returns, wrong))
    equal = equal and scores == trial.user_attrs["scores"]
    wrong = _other_measures(study.spec, trial, taken)
    for name in wrong:
        console.print(f"{name}: DIFFERENT")
    equal = equal and not wrong
    again = taken.values if taken is not None else [float("nan")]
    shown = [", ".join(map(str, values)) for values in (trial.values, again)]
    console.print(
        f"trial {number}: {'equal to the bit' if equal else 'NOT equal'} "
        f"(score {shown[0]} stored, {shown[1]} again)"
    )
    return equal


def replay_race(database: Database, name: str, *, console: Console) -> bool:
    """Make the decisions of a race again and compare; whether all of them agree.

    Raises:
        UsageError: The study has decided nothing by a race.
    """
    study = studies.find(database, name)
    pairs = replay_decisions(database, study)
    if not pairs:
        raise UsageError(f"study {name!r} has decided nothing by a race (it is at {study.stage!r})")
    for pair in pairs:
        one = pair.decided
        p = "" if one.p is None else f", p(best) = {one.p:.3g}"
        verdict = "equal" if pair.equal else f"DIFFERENT: {pair.again}"
        line = f"block {one.block}  trial {one.trial}  {one.verdict}: {one.why}{p}  {verdict}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    equal = all(pair.equal for pair in pairs)
    console.print(f"{len(pairs)} decisions: {'equal to the bit' if equal else 'NOT equal'}")
    return equal


def _other_measures(spec: Spec, trial: FrozenTrial, taken: Taken | None) -> list[str]:
    """Measures and objectives that differ, other than those that differ each time."""
    if taken is None:
        return []
    clock = {measure.name for measure in wanted(spec) if measure.kind.clock}
    stored, again = trial.user_attrs.get("measures", {}), taken.attributes.get("measures", {})
    found = [name for name in stored if name not in clock and stored[name] != again.get(name)]
    for objective, before, now in zip(
        spec.search.objectives, trial.values, taken.values, strict=True
    ):
        name = objective.measure.name
        if name not in clock and name not in found and before != now:
            found.append(name)
    return found


def _differences(stored: dict[str, dict[int, list[float]]], event: Evaluation) -> list[str]:
    """Names of the metrics that are stored of this step and differ from the event's."""
    return [
        name
        for name, curve in sorted(stored.items())
        if event.step in curve
        and not (
            name in event.metrics
            and np.array_equal(curve[event.step], event.metrics[name], equal_nan=True)
        )
    ]


def _line(step: int, stored: dict[int, list[float]], again: Any, wrong: list[str]) -> str:
    verdict = f"DIFFERENT: {', '.join(wrong)}" if wrong else "equal"
    return (
        f"step {step:>9,}  stored {_mean(stored.get(step, np.nan)):>9}  "
        f"again {_mean(again):>9}  {verdict}"
    )


def _mean(returns: Any) -> str:
    return decimal(float(np.mean(returns)), 3)


def _device(trial: FrozenTrial, wanted: str | None) -> str:
    """The device that was asked for, or that of the trial."""
    recorded = str(trial.user_attrs["device"])
    try:
        return find_device(wanted or recorded)
    except UsageError as exc:
        if wanted is not None:
            raise
        raise UsageError(
            f"trial {trial.number} was trained on {recorded!r}, and {exc}; --device cpu trains it"
            " here, where its bits may differ"
        ) from exc


def _say_if_built_differently(
    trial: FrozenTrial, here: dict[str, str], console: Console, *, portable: bool
) -> None:
    there = {**trial.user_attrs["versions"], "device": trial.user_attrs["device"]}
    there["hardware"] = trial.user_attrs.get("hardware", here["hardware"])
    if portable:
        there, here = ({**x, "hardware": machine(x["hardware"])} for x in (there, here))
    other = {
        name: f"{found} there, {here.get(name)} here"
        for name, found in there.items()
        if found != here.get(name)
    }
    if other:
        lines = "; ".join(f"{name} {text}" for name, text in other.items())
        console.print(f"another build, so bits may differ: {lines}")
