"""The decisions of a race, made again from the trials and compared with those that are stored."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.finalists import choose_racers
from coordinator.race import rounds
from coordinator.retrain import without_replaced
from trialfleet.store import metrics
from trialfleet.store.steering import decisions
from trialfleet.store.steering.decisions import Decided
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What became of one finalist after one block, as stored and as found again."""

    stored: Decided | None  # None: nothing of it is stored
    again: Decided | None  # None: it does not follow from the trials

    @property
    def equal(self) -> bool:
        """Whether they agree in everything, to the bit."""
        return self.stored == self.again

    @property
    def decided(self) -> Decided:
        """The one that is there, first of all what is stored."""
        found = self.stored or self.again
        assert found is not None
        return found


def replay_decisions(database: Database, study: Study) -> list[Pair]:
    """All decisions of a study's race, by block and finalist; none of a study without one."""
    if study.final_id is None or not study.spec.races:
        return []
    with database.transaction() as connection:
        stored = decisions.read(connection, study.final_id)
    search = database.trials(study.search_id)
    final = without_replaced(database.trials(study.final_id))
    curves = metrics.read(database, study.final_id, "return")
    entries = rounds.entries(choose_racers(search, study.spec.final.top))
    # A block under way leads to no decision yet.
    whole = max((each.block for each in stored), default=0)
    trained = [trial for trial in final if trial.user_attrs[rounds.BLOCK] <= whole]
    again = rounds.again(entries, trained, curves, rounds.rules(study.spec, len(entries)))
    before = {(each.block, each.finalist): each for each in stored}
    now = {(each.block, each.finalist): each for each in again}
    return [Pair(stored=before.get(key), again=now.get(key)) for key in sorted({*before, *now})]
