"""Studies that take no time, and trials that are finished by hand instead of by training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, Literal
from uuid import uuid4

import numpy as np
import optuna
from safetensors.numpy import save
from sqlalchemy import text

from coordinator.create import create_or_join
from trialfleet.artifacts.stores import open_store
from trialfleet.search import space
from trialfleet.seeds import search_seeds
from trialfleet.store import leases, workers
from trialfleet.store.artifacts import owned
from trialfleet.store.leases import Claim
from trialfleet.store.metrics import Metric
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import reports
from trialfleet.study.file import parse
from trialfleet.study.spec import Spec

LEASE = 30.0  # seconds; nothing waits for them

TRIVIAL = """
name = "{name}"
seed = {seed}

[task]
env = "{env}"
seeds = {seeds}
train_steps = {train_steps}
eval_every = {eval_every}
max_seconds = {max_seconds}
stall_seconds = {stall_seconds}
eval_episodes = 1
score_episodes = 1

[agent]
learning_rate = {{ low = 1e-4, high = 1e-2, log = true }}
gamma = {{ low = 0.9, high = 0.999 }}
batch_size = 4
buffer_size = 16
learning_starts = 0
train_freq = 4
net_arch = [8]

[search]
trials = {trials}
objectives = {objectives}
over_seeds = "{over_seeds}"
sampler = {sampler}
pruner = {pruner}
audit = {audit}
max_failures = {max_failures}
max_attempts = {max_attempts}

[final]
top = {top}
race = {race}
seeds = {final_seeds}
confirm = {confirm}
episodes = 1
{more}
"""


def trivial_study(
    *,
    name: str = "trivial",
    seed: int = 3,
    env: str = "CartPole-v1",
    seeds: int = 2,
    train_steps: int = 16,
    eval_every: int = 16,
    trials: int = 4,
    max_failures: int = 10,
    max_attempts: int = 3,
    max_seconds: float = 0.0,
    stall_seconds: float = 0.0,
    sampler: str = '"random"',
    pruner: str = '"none"',
    audit: float = 0.0,
    top: int = 2,
    race: bool = False,
    final_seeds: int = 3,
    confirm: int | str = 0,
    objectives: str = '["score"]',
    over_seeds: str = "mean",
    more: str = "",
) -> str:
    """A study file whose trials take milliseconds; what it learns is nothing."""
    return TRIVIAL.format(**{**locals(), "race": str(race).lower()})


def trivial_spec(**fields: Any) -> Spec:
    """The study of `trivial_study`."""
    return parse(trivial_study(**fields), source="trivial.toml")


def create(database: Database, **fields: Any) -> Study:
    """A trivial study, stored."""
    return create_or_join(database, trivial_spec(**fields))


def take(database: Database, study: str = "trivial", *, worker: str = "hand") -> Claim:
    """A claim, where there must be one."""
    found = leases.claim(database, study, worker=worker, claim_id=uuid4(), lease_seconds=LEASE)
    assert found is not None
    return found


def take_all(database: Database, study: str = "trivial") -> list[Claim]:
    """Every claim there is to be had."""
    claims = []
    while claim := leases.claim(
        database, study, worker="hand", claim_id=uuid4(), lease_seconds=LEASE
    ):
        claims.append(claim)
    return claims


def extend(database: Database, claim: Claim) -> bool:
    """What a worker's heartbeat does for its lease; whether that is still its own."""
    identity = {"worker": "hand", "study": "trivial", "host": "here", "pid": 1, "version": "0"}
    return workers.beat(database, identity, fence=claim.fence).extended


def finish(
    database: Database,
    claim: Claim,
    *,
    value: float = 1.0,
    state: Literal["COMPLETE", "PRUNED", "FAIL"] = "COMPLETE",
    attributes: Mapping[str, Any] | None = None,
    **more: Any,
) -> None:
    """End a trial; nothing else is written to it."""
    finished = leases.finish(
        database,
        claim,
        state=state,
        values=[] if state == "FAIL" else [value],
        attributes=attributes or ({"reason": "by hand"} if state == "FAIL" else {}),
        **more,
    )
    assert finished


def train_by_hand(
    database: Database,
    study: Study,
    claim: Claim,
    *,
    scores: Sequence[float],
    early: float = 0.0,
    params: Mapping[str, Any] | None = None,
    arrays: Mapping[str, np.ndarray[Any, Any]] | None = None,
) -> None:
    """Do to a trial all that a worker does to one that it completes, without training.

    Args:
        database: The test's.
        study: The trial's.
        claim: Ours.
        scores: Final mean return of each agent `[S]`.
        early: What every agent returns at the evaluation half-way.
        params: Optuna's values for searched knobs, instead of the sampler's.
        arrays: The stored networks of every agent, instead of stand-ins.
    """
    task = study.spec.task
    name = study.name if claim.stage == "search" else study.final_name
    storage = database.optuna_storage(claim.fence)
    optuna_study = database.optuna_study(name, storage=storage)
    trial = optuna.Trial(optuna_study, claim.trial_id)
    if claim.stage == "search":
        if params:
            distributions = space.distributions(study.spec.agent)
            for knob, value in params.items():
                storage.set_trial_param(
                    claim.trial_id,
                    knob,
                    distributions[knob].to_internal_repr(value),
                    distributions[knob],
                )
        else:
            space.suggest(trial, study.spec.agent)
        seeds = search_seeds(study.spec.seed, claim.number, task.seeds)
    else:
        seeds = trial.user_attrs["seeds"]
    points = {task.train_steps: list(scores)}
    if task.segments > 1:
        points[task.eval_every] = [early] * len(seeds)
    for step in sorted(points):
        send(database, claim, step, points[step])
    attributes: dict[str, Any] = {
        "scores": list(scores),
        "seeds": seeds,
        "versions": {"trialfleet": study.version},
        "device": "cpu",
    }
    if claim.stage == "final":
        attributes["model"] = store_model(database, study, claim, len(seeds), arrays=arrays)
    finish(database, claim, value=float(np.mean(scores)), attributes=attributes)


def send_metrics(
    database: Database, claim: Claim, step: int, named: Mapping[str, Sequence[float]]
) -> None:
    """Report an evaluation by its named metrics, of which `return` is one."""
    points = [Metric(step=step, name=name, values=values) for name, values in named.items()]
    mean = float(np.mean(named["return"]))
    reports.send(database, claim, sent=0, returns=[(step, mean)], metrics=points)


def send(database: Database, claim: Claim, step: int, returns: Sequence[float]) -> None:
    """Report an evaluation: the mean return of each agent `[S]`."""
    send_metrics(database, claim, step, {"return": returns})


def model_arrays(number: int, agents: int) -> dict[str, np.ndarray[Any, Any]]:
    """Stand-ins for a final trial's stacked networks: every agent's numbers are its own."""
    base = 100.0 * number + np.arange(agents)  # [S]
    return {
        "layers.0.weight": np.tile(base[:, None, None], (1, 3, 4)).astype(np.float32),  # [S, 3, 4]
        "layers.0.bias": np.tile(base[:, None], (1, 3)).astype(np.float32),  # [S, 3]
    }


def store_model(
    database: Database,
    study: Study,
    claim: Claim,
    agents: int,
    *,
    arrays: Mapping[str, np.ndarray[Any, Any]] | None = None,
) -> dict[str, Any]:
    """Store the stand-ins, or each agent's `arrays`, as a worker stores networks."""
    if arrays is None:
        stacked = model_arrays(claim.number, agents)
    else:
        stacked = {name: np.stack([array] * agents) for name, array in arrays.items()}
    stored = owned.put(
        database,
        open_store(study.artifacts, database),
        study,
        kind="model",
        label=f"{study.final_name}-{claim.number}-model-{claim.fence}",
        data=save(stacked),
        claim=claim,
    )
    return asdict(stored)


def expire(database: Database, *fences: int) -> None:
    """Let leases (all of them, if none is named) have expired, long after the server's start."""
    statement = (
        "UPDATE fleet.attempts SET lease = '0', expires_at = now() - interval '1 second' "
        "WHERE ended_at IS NULL"
    )
    with database.transaction() as connection:
        if fences:
            connection.execute(text(f"{statement} AND fence = ANY(:fences)"), {"fences": [*fences]})
        else:
            connection.execute(text(statement))


def states(database: Database, study_id: int) -> list[tuple[int, str]]:
    """Number and state of every trial, by number."""
    with database.transaction() as connection:
        rows = connection.execute(
            text(
                "SELECT number, state::text FROM public.trials "
                "WHERE study_id = :study_id ORDER BY number, trial_id"
            ),
            {"study_id": study_id},
        )
        return [(row.number, row.state) for row in rows]


def at_once(*calls: Any) -> list[Any]:
    """Run the calls in a thread each; their results in order, or the first one's exception."""
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        return [future.result() for future in futures]


def attribute(database: Database, claim: Claim, key: str) -> str | None:
    """A user attribute of the trial as JSON text; None if it has none."""
    with database.transaction() as connection:
        value: str | None = connection.scalar(
            text(
                "SELECT value_json FROM public.trial_user_attributes "
                "WHERE trial_id = :trial_id AND key = :key"
            ),
            {"trial_id": claim.trial_id, "key": key},
        )
    return value


def outcomes(database: Database, claim: Claim) -> list[str | None]:
    """How the trial's attempts ended, oldest first; None for the open one."""
    with database.transaction() as connection:
        return list(
            connection.scalars(
                text(
                    "SELECT outcome FROM fleet.attempts WHERE trial_id = :trial_id ORDER BY fence"
                ),
                {"trial_id": claim.trial_id},
            )
        )
