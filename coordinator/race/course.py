"""The course of a race: what is trained next, and each decision made once.

A decision, and the trials that it leads to, are stored in one transaction under the study's lock.
So a coordinator that dies leaves both or neither, and of two that decide at the same time the
second finds that it is done.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from optuna.trial import FrozenTrial, TrialState

from coordinator.finalists import Finalist, seed_groups
from coordinator.race import rounds
from coordinator.race.narrowing import VERDICTS
from coordinator.retrain import without_replaced
from trialfleet.seeds import confirmation_seeds, race_seeds
from trialfleet.store import metrics, studies
from trialfleet.store.steering import decisions
from trialfleet.store.steering.decisions import Decided
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import reading
from trialfleet.store.trials.optuna_rows import insert_trials

log = structlog.get_logger()


def advance(database: Database, study: Study) -> bool:
    """Decide what follows once all that was to train has ended; whether the race goes on.

    It is over when one has won and is confirmed, or nobody is left.
    """
    assert study.final_id is not None
    with database.transaction() as connection:
        decided = decisions.read(connection, study.final_id)
    given = rounds.rules(study.spec, sum(each.block == 0 for each in decided))
    trials = without_replaced(database.trials(study.final_id))
    if not all(trial.state.is_finished() for trial in trials):
        return True
    if not rounds.undecided(decided, trials, given):
        return False
    block = rounds.last(decided)[0].block + 1
    curves = metrics.read(database, study.final_id, "return")
    made = rounds.after(block, decided, trials, curves, given)
    search = database.trials(study.search_id)
    templates = to_come(study, [*decided, *made], search)
    with database.transaction() as connection:
        found = studies.lock(connection, study)
        same = (found.stage, found.final_id) == ("final", study.final_id)
        if not same or decisions.last_block(connection, study.final_id) != block - 1:
            return True  # somebody was faster
        if reading.count(connection, study.final_id).pending:
            return True  # a trial is being trained again
        decisions.insert(connection, study.final_id, made)
        insert_trials(connection, study.final_id, templates)
    for each in made:
        if each.verdict in ("out", "failed", "wins", *VERDICTS):
            log.info(each.verdict, study=study.name, block=block, trial=each.trial, why=each.why)
    return True


def to_come(
    study: Study, decided: Sequence[Decided], search: Sequence[FrozenTrial]
) -> list[FrozenTrial]:
    """The trials that follow from what was decided last: of the race or the winner's confirmation.

    Args:
        study: Whose final stage it is.
        decided: All there is.
        search: The trials of the search.
    """
    spec, agents = study.spec, study.spec.task.seeds
    sources = {each.finalist: search[each.trial] for each in decided}
    block = rounds.last(decided)[0].block + 1
    # Those of former final stages are known: whoever extended the study has seen them.
    first = study.finals * spec.final.top
    templates = []
    given = rounds.rules(spec, len(sources))
    for each in rounds.last(decided):
        if each.finalist in rounds.to_train(decided):
            done = 0 if each.block == 0 else each.seeds
            seeds = race_seeds(spec.seed, first + each.finalist, given.seeds * given.blocks)
            seeds = spec.handed(seeds)
            groups, more = [seeds[done : done + given.seeds]], {}
        elif each == rounds.to_confirm(decided) and spec.final.confirm:
            most = spec.final.most_confirming
            seeds = confirmation_seeds(spec.seed, first + each.finalist, most)
            done = each.seeds if each.verdict == "confirming" else 0
            end = spec.final.next_confirming(agents, done)
            seeds = spec.handed(seeds)[done:end]
            groups, more = seed_groups(seeds, agents), {rounds.CONFIRMS: True}
        else:
            continue
        templates += [
            waiting(
                sources[each.finalist],
                {
                    "finalist": each.finalist,
                    "source": each.trial,
                    "seeds": group,
                    rounds.BLOCK: block,
                    **more,
                },
            )
            for group in groups
        ]
    return templates


def waiting(source: FrozenTrial, attributes: dict[str, object]) -> FrozenTrial:
    """A trial that trains a configuration of the search again.

    Not by `create_trial`, which refuses a value outside of its range: an earlier version may have
    trained one that somebody had enqueued.
    """
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state=TrialState.WAITING,
        value=None,
        datetime_start=None,
        datetime_complete=None,
        params=source.params,
        distributions=source.distributions,
        user_attrs=attributes,
        system_attrs={},
        intermediate_values={},
    )


def entered(decided: Sequence[Decided], search: Sequence[FrozenTrial]) -> list[Finalist]:
    """The finalists of a race, by rank."""
    return [
        Finalist(
            rank=each.finalist,
            number=each.trial,
            values=search[each.trial].values,
            trial=search[each.trial],
        )
        for each in decided
        if each.block == 0
    ]
