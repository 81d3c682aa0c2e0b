"""A final trial whose model is lost is trained again, once, and counted out.

The model of a COMPLETE trial can be deleted or damaged afterwards, by whoever has the artifact
store. Its row is final, so another trial with the same finalist and the same seeds takes its place:
nothing that has finished changes, numbers stay dense, and the replacement gives the same scores to
the bit. Ending the study would throw the whole search away for one file; choosing another winner
would give an answer that depends on which file was lost. A replacement that is lost, too, ends the
study: a store that loses models is for a person to look at.
"""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial, TrialState

from trialfleet.search.marks import is_ours
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import reading
from trialfleet.store.trials.optuna_rows import insert_trials

# What a trial of the final stage is enqueued with, besides its parameters.
ENQUEUED = ("finalist", "source", "seeds", "block", "confirms")
REPLACES = "replaces"  # attribute of a replacement: the number of the trial that it replaces


class ModelLostError(Exception):
    """The stored model of a COMPLETE trial of the final stage is missing or damaged.

    Args:
        trial: The trial.
        reason: What is wrong with its model.
    """

    def __init__(self, trial: FrozenTrial, reason: str) -> None:
        super().__init__(f"the model of final trial {trial.number} is lost: {reason}")
        self.trial = trial


def without_replaced(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count: those that nothing replaces, each in the place of its first one.

    Optuna can enqueue a trial to the final stage, too. It fails, and is no finalist's.
    """
    trials = [trial for trial in trials if is_ours(trial.user_attrs)]
    replaced = {trial.user_attrs.get(REPLACES) for trial in trials}
    standing = [trial for trial in trials if trial.number not in replaced]
    return sorted(standing, key=lambda trial: trial.user_attrs.get(REPLACES, trial.number))


def train_again(database: Database, study: Study, lost: FrozenTrial) -> bool:
    """Enqueue the replacement of a trial of the final stage, exactly once whoever calls.

    Returns:
        False if the trial is a replacement itself: then nothing was enqueued.
    """
    assert study.final_id is not None
    attributes = lost.user_attrs
    if REPLACES in attributes:
        return False
    template = optuna.trial.create_trial(
        state=TrialState.WAITING,
        params=lost.params,
        distributions=lost.distributions,
        user_attrs={
            **{key: attributes[key] for key in ENQUEUED if key in attributes},
            REPLACES: lost.number,
        },
    )
    with database.transaction() as connection:
        # Locked, so that two coordinators enqueue one replacement.
        found = studies.lock(connection, study)
        in_final = (found.stage, found.final_id) == ("final", study.final_id)
        if in_final and lost.number not in reading.numbers_in(connection, study.final_id, REPLACES):
            insert_trials(connection, study.final_id, [template])
    return True
