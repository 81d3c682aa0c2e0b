"""Where a race stands, for people who watch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from coordinator.finalists import seed_groups
from coordinator.race import rounds
from coordinator.race.narrowing import VERDICTS
from trialfleet.store.steering import decisions
from trialfleet.store.steering.decisions import Decided
from trialfleet.store.studies import Study
from trialfleet.study.spec import Spec


@dataclass(frozen=True, kw_only=True)
class RaceStands:
    """A race under way."""

    block: int  # that is being trained, from 1; at the end, the last one that was
    most_blocks: int  # of each finalist; who waits for the others trains its own later
    finalists: int  # that entered
    standing: int  # that can still win
    confirming: int | None  # the search's trial that has won, and is being confirmed
    # of a confirmation until the interval is narrow: how many seeds it has had, how many more may
    # follow those that are being trained, and how wide its interval was
    confirming_seeds: int = 0
    confirming_to_come: int = 0
    confirming_told: str = ""

    @property
    def told(self) -> str:
        """In a few words."""
        if self.confirming is not None:
            won = f"trial {self.confirming} has won the race and is being confirmed"
            return f"{won}: {self.confirming_told}" if self.confirming_told else won
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
    won, last = rounds.winner(decided), rounds.last(rounds.of_the_race(decided))
    entered = sum(each.block == 0 for each in decided)
    return RaceStands(
        block=last[0].block + (won is None),
        most_blocks=rounds.rules(study.spec, entered).blocks,
        finalists=entered,
        standing=1 if won is not None else len(rounds.standing(decided)),
        confirming=next((each.trial for each in last if each.finalist == won), None),
        **_confirmation(study.spec, decided),
    )


def _confirmation(spec: Spec, decided: Sequence[Decided]) -> dict[str, Any]:
    """Where a confirmation stands that goes on until its interval is narrow."""
    until, won = spec.final.until, rounds.winner(decided)
    if until is None or won is None:
        return {}
    looked = next(each for each in rounds.last(decided) if each.finalist == won)
    done = looked.seeds if looked.verdict in VERDICTS else 0
    told = f"{done} of at most {until.most} seeds"
    told += f", {looked.why}" if done else f", until its 95% interval is {until.width:g} wide"
    to_come = 0
    if rounds.to_confirm(decided) is not None:
        to_come = until.most - spec.final.next_confirming(spec.task.seeds, done)
    return {"confirming_seeds": done, "confirming_to_come": to_come, "confirming_told": told}


def most_trials(study: Study, stands: RaceStands | None) -> int:
    """How many trials the final stage has at most, if no model is lost."""
    final, agents = study.spec.final, study.spec.task.seeds
    finalists = min(final.top, study.budget)
    if not study.spec.races:
        return finalists * len(seed_groups(list(range(final.seeds)), agents))
    if stands is not None:
        finalists = stands.finalists
    blocks = rounds.rules(study.spec, finalists).blocks
    return finalists * blocks + -(-final.most_confirming // agents)


def trials_to_come(study: Study, stands: RaceStands | None) -> int:
    """How many trials of the final stage are to be enqueued yet, as far as can be said.

    A fixed stage has all of them at once. Of a race that has not begun, half of the blocks are
    expected to be trained; of one that has, half of what is left. So it is with a confirmation
    that goes on until its interval is narrow.
    """
    final, agents = study.spec.final, study.spec.task.seeds
    finalists = min(final.top, study.budget)
    if not study.spec.races:
        return finalists * len(seed_groups(list(range(final.seeds)), agents))
    confirming = -(-final.most_confirming // agents)
    if final.until is not None:
        confirming = -(-confirming // 2)
    if stands is None:
        return finalists * -(-final.blocks(agents) // 2) + confirming
    if stands.confirming is not None:
        return -(-stands.confirming_to_come // agents) // 2
    return stands.standing * (max(0, stands.most_blocks - stands.block) // 2) + confirming
