"""Build the job for a claimed trial: its parameters are the sampler's or the final stage's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import optuna

from trialfleet import seeds
from trialfleet.errors import LeaseLostError
from trialfleet.search import space
from trialfleet.search.marks import IMPORTED, is_ours
from trialfleet.search.samplers import make_sampler
from trialfleet.search.space import ForeignTrialError
from trialfleet.store import studies
from trialfleet.store.leases import Claim
from trialfleet.store.optuna.storage import Storage
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.study.spec import Spec
from worker.trainers.environment import Environment
from worker.trainers.protocol import How, Job


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A claimed trial, ready to be trained."""

    job: Job
    curve: Mapping[int, float]  # what earlier attempts have reported: mean return by step
    rungs: Mapping[str, float]  # of its pruner's, that they have passed


def open_trial(
    database: Database,
    study: Study,
    claim: Claim,
    *,
    storage: Storage,
    **how: Unpack[How],
) -> Opened:
    """Read the trial, let the study's sampler suggest what it lacks, and store that.

    May be repeated: parameters that were stored although the reply was lost are read back, instead
    of others being suggested.

    Raises:
        StudyDeletedError: The study is gone, even if there is another of its name.
        LeaseLostError: The study was extended, so its final stage is a former one.
    """
    study_id = study.search_id if claim.stage == "search" else _final_stage(database, study, claim)
    with storage.opening(claim.trial_id):
        # The sampler is this trial's alone; it learns from all trials, those of other Hyperband
        # brackets too.
        sampler = make_sampler(study.spec, claim.number) if claim.stage == "search" else None
        optuna_study = database.open_study(study_id, storage=storage, sampler=sampler)
        trial = optuna.Trial(optuna_study, claim.trial_id)
        job = configure(study, claim, trial, **how)
        known = trial._cached_frozen_trial
        return Opened(
            job=job,
            curve=known.intermediate_values,
            rungs={
                key: value
                for key, value in known.system_attrs.items()
                if key.startswith("completed_rung_")
            },
        )


def _final_stage(database: Database, study: Study, claim: Claim) -> int:
    """Optuna's study of the final stage, which may have begun after this worker read `study`."""
    found = studies.read_again(database, study).final_id
    if found is None:
        raise LeaseLostError(f"final trial {claim.number} ended when the study was extended")
    return found


def configure(study: Study, claim: Claim, trial: optuna.Trial, **how: Unpack[How]) -> Job:
    """The search's trials ask the sampler; those of the final stage bring all they need."""
    spec = study.spec
    _refuse_foreign(claim, trial, spec)
    if claim.stage == "final":
        knobs, own = space.decode(trial.params, spec.agent), trial.user_attrs["seeds"]
    else:
        knobs = space.suggest(trial, spec.agent)
        own = spec.handed(seeds.search_seeds(spec.seed, claim.number, spec.task.seeds))
    return make_job(study, knobs, own, final=claim.stage == "final", **how)


def _refuse_foreign(claim: Claim, trial: optuna.Trial, spec: Spec) -> None:
    """Return if nobody else than Trialfleet has made the trial, or it can be trained all the same.

    Optuna's own `enqueue_trial` and `add_trial` write to our studies, too.

    Raises:
        ForeignTrialError: It cannot; the trial is to FAIL for that reason.
    """
    given = trial.user_attrs
    if claim.stage == "final":
        if not is_ours(given):
            raise ForeignTrialError(
                "somebody has enqueued a trial to the final stage, which trains nothing but"
                " finalists; enqueue it to the search, with `trialfleet enqueue`"
            )
        return
    marks = ", ".join(key for key in (IMPORTED, "audit") if key in given)
    if marks:
        raise ForeignTrialError(f"somebody has enqueued it with the user attribute {marks}")
    fixed = trial._cached_frozen_trial.system_attrs.get("fixed_params", {})
    space.refuse_foreign({**fixed, **trial.params}, spec.agent)


def make_job(
    study: Study,
    knobs: Mapping[str, Any],
    seeds: Sequence[int],
    *,
    final: bool,
    **how: Unpack[How],
) -> Job:
    """Everything that a trial's result depends on."""
    task = study.spec.task
    return Job(
        env="" if task.objective else Environment.of_task(task.model_dump()),
        knobs=knobs,
        seeds=seeds,
        train_steps=task.train_steps,
        eval_every=task.eval_every,
        eval_episodes=task.eval_episodes,
        score_episodes=study.spec.final.episodes if final else task.score_episodes,
        keep="best" if task.keep == "best" else "last",
        **how,
        objective=task.objective or "",
        returns=study.spec.returns,
        final=final,
    )
