"""Doing it again: a stored trial, or fresh episodes with a saved agent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from optuna.trial import FrozenTrial
from rich.console import Console

from trialfleet.cli.show.model import load_model
from trialfleet.errors import UsageError
from trialfleet.search import space
from trialfleet.store import metrics, studies
from trialfleet.store.storage import Database
from worker.attempt import Configuration
from worker.envs import inspect_env
from worker.loop import versions
from worker.threads import use_one_thread
from worker.trainers.dqn.evaluate import evaluate
from worker.trainers.dqn.network import load_network
from worker.trainers.dqn.train import Evaluation


def evaluate_model(path: Path, *, episodes: int, seed: int) -> str:
    """Play `episodes` greedy episodes with a saved agent; a line that says how it did.

    Raises:
        UsageError: The file is no saved agent, or one for another environment.
    """
    arrays, manifest = load_model(path)
    env = manifest["task"]["env"]
    shape = inspect_env(env)
    try:
        network = load_network(arrays)
    except ValueError as exc:
        raise UsageError(f"{path}: {exc}") from exc
    if (network.sizes[0], network.sizes[-1]) != (shape.observation_size, shape.actions):
        raise UsageError(f"{path}: its network does not fit {env}")
    use_one_thread()
    returns = evaluate(network, env, [np.random.SeedSequence(seed)], episodes).returns[0]  # [E]
    return (
        f"{env}: mean return {returns.mean():.1f} ± {returns.std():.1f} over {episodes} episodes "
        f"(lowest {returns.min():.1f}, highest {returns.max():.1f})"
    )


def replay_trial(
    database: Database, name: str, number: int, *, final: bool, console: Console
) -> bool:
    """Train a finished trial again and compare every evaluation; whether all bits agree.

    Raises:
        UsageError: There is no such trial, or it has no result to compare with.
    """
    study = studies.find(database, name)
    optuna_name = study.final_name if final else study.name
    study_id = study.final_id if final else study.search_id
    if study_id is None:
        raise UsageError(f"study {name!r} has no final stage yet")
    trials = database.optuna_study(optuna_name).get_trials(deepcopy=False)
    if number >= len(trials):
        raise UsageError(f"study {optuna_name!r} has no trial {number}; it has {len(trials)}")
    trial = trials[number]
    if "scores" not in trial.user_attrs:
        raise UsageError(f"trial {number} of {optuna_name!r} is {trial.state.name}: no result")
    stored = dict(metrics.read(database, study_id, "return").get(number, []))
    _say_if_built_differently(trial, console)
    configuration = Configuration(
        knobs=space.decode(trial.params, study.spec.agent),
        seeds=trial.user_attrs["seeds"],
        score_episodes=(study.spec.final.episodes if final else study.spec.task.score_episodes),
    )
    use_one_thread()
    equal = True
    for event in configuration.training(study, "cpu").run():
        if not isinstance(event, Evaluation):
            continue
        again = event.returns.mean(axis=1).tolist()  # [S]
        same = again == stored[event.step]
        equal = equal and same
        console.print(
            f"step {event.step:>9,}  stored {np.mean(stored[event.step]):9.3f}  "
            f"again {np.mean(again):9.3f}  {'equal' if same else 'DIFFERENT'}"
        )
        if event.step == max(stored):
            equal = equal and again == trial.user_attrs["scores"]
            break  # a pruned trial ended here
    console.print(
        f"trial {number}: {'equal to the bit' if equal else 'NOT equal'} "
        f"(score {trial.value} stored)"
    )
    return equal


def _say_if_built_differently(trial: FrozenTrial, console: Console) -> None:
    here = versions()
    other = {
        name: f"{found} there, {here.get(name)} here"
        for name, found in trial.user_attrs["versions"].items()
        if found != here.get(name)
    }
    if other:
        lines = "; ".join(f"{name} {text}" for name, text in other.items())
        console.print(f"another build, so bits may differ: {lines}")
