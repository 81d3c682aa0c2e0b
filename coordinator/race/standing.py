"""Where a race stands, for people who watch."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from coordinator.finalists import seed_groups
from coordinator.race import rounds
from trialfleet.store.steering import decisions
from trialfleet.store.studies import Study


@dataclass(frozen=True, kw_only=True)
class RaceStands:
    """A race under way."""

    block: int  # that is being trained, from 1; at the end, the last one that was
    most_blocks: int  # of each finalist; who waits for the others trains its own later
    finalists: int  # that entered
    standing: int  # that can still win
    confirming: int | None  # the search's trial that has won, and is being confirmed

    @property
    def told(self) -> str:
        """In a few words."""
        if self.confirming is not None:
            return f"trial {self.confirming} has won the race and is being confirmed"
        return (
            f"race: block {self.block}, at most {self.most_blocks} for each, "
            f"{self.standing} of {self.finalists} finalists left"
        )


def race_stands(connection: Connection, study: Study) -> RaceStands | None:
    """Where the race of a study stands; None before it begins, and where there is none."""
    if study.final_id is None or not study.spec.races:
        return None
    decided = decisions.read(connection, study.final_id)
    if not decided:
        return None
    last, won = rounds.last(decided), rounds.winner(decided)
    entered = sum(each.block == 0 for each in decided)
    return RaceStands(
        block=last[0].block + (won is None),
        most_blocks=rounds.rules(study.spec, entered).blocks,
        finalists=entered,
        standing=1 if won is not None else len(rounds.standing(decided)),
        confirming=next((each.trial for each in last if each.finalist == won), None),
    )


def trials_to_come(study: Study, stands: RaceStands | None) -> int:
    """How many trials of the final stage are to be enqueued yet, as far as can be said.

    A fixed stage has all of them at once. Of a race that has not begun, half of the blocks are
    expected to be trained; of one that has, half of what is left.
    """
    final, agents = study.spec.final, study.spec.task.seeds
    finalists = min(final.top, study.budget)
    if not study.spec.races:
        return finalists * len(seed_groups(list(range(final.seeds)), agents))
    confirming = len(seed_groups(list(range(final.confirm)), agents)) if final.confirm else 0
    if stands is None:
        return finalists * -(-final.blocks(agents) // 2) + confirming
    if stands.confirming is not None:
        return 0
    return stands.standing * (max(0, stands.most_blocks - stands.block) // 2) + confirming
