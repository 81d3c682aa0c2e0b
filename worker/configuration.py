"""What a claimed trial is to train: the sampler's word, or that of the final stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from trialfleet import seeds
from trialfleet.search import space
from trialfleet.search.pruners import make_pruner
from trialfleet.search.samplers import make_sampler
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database, Storage
from trialfleet.store.studies import Study
from worker.trainers.protocol import Job


def open_study(database: Database, study: Study, claim: Claim, storage: Storage) -> optuna.Study:
    """Optuna's study under the claim's fence, with a sampler and pruner for this trial alone."""
    if claim.stage == "final":
        return database.optuna_study(study.final_name, storage=storage)
    # A pruner made anew for each trial has no brackets yet when the sampler asks for the history,
    # so the sampler learns from all trials, not only from those of the trial's Hyperband bracket.
    return database.optuna_study(
        study.name,
        storage=storage,
        sampler=make_sampler(study.spec, claim.number),
        pruner=make_pruner(study.spec),
    )


def configure(study: Study, claim: Claim, trial: optuna.Trial, device: str) -> Job:
    """The search's trials ask the sampler; those of the final stage bring all they need."""
    spec = study.spec
    if claim.stage == "final":
        knobs, own = space.decode(trial.params, spec.agent), trial.user_attrs["seeds"]
    else:
        knobs = space.suggest(trial, spec.agent)
        own = seeds.search_seeds(spec.seed, claim.number, spec.task.seeds)
    return make_job(study, knobs, own, final=claim.stage == "final", device=device)


def make_job(
    study: Study, knobs: Mapping[str, Any], seeds: Sequence[int], *, final: bool, device: str
) -> Job:
    """Everything that a trial's result depends on."""
    task = study.spec.task
    return Job(
        env=task.env,
        knobs=knobs,
        seeds=seeds,
        train_steps=task.train_steps,
        eval_every=task.eval_every,
        eval_episodes=task.eval_episodes,
        score_episodes=study.spec.final.episodes if final else task.score_episodes,
        keep="best" if task.keep == "best" else "last",
        device=device,
    )
