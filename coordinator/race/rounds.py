"""A race as its rows tell it: who stands after which block, and what is decided next.

Nothing here reads or writes the database. The same functions make the decisions and, later, check
them (`trialfleet replay STUDY --decisions`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState

from coordinator.finalists import Finalist
from coordinator.race.decisions import Decision, Racer, Rules, decide
from coordinator.race.narrowing import VERDICTS, Narrowing
from trialfleet.store.metrics import Curve
from trialfleet.store.steering.decisions import Decided
from trialfleet.study.measures import as_score
from trialfleet.study.spec import Spec
from trialfleet.study.values import curve_area, mean

# Attributes of a final stage's trials.
BLOCK = "block"  # the one that a trial belongs to: what is decided after it looks at the trial
CONFIRMS = "confirms"  # true for a trial that confirms the winner, and has no part in the race

_GONE = ("out", "failed")


def rules(spec: Spec, finalists: int) -> Rules:
    """What the race of a study goes by, with so many that entered."""
    agents = spec.task.seeds
    return Rules(
        finalists=finalists,
        seeds=spec.final.block(agents),
        blocks=spec.final.blocks(agents),
        error=spec.final.error,
        narrowing=Narrowing.of(spec),
    )


def entries(chosen: Sequence[tuple[Finalist, float]]) -> list[Decided]:
    """Those who enter the race, with the shrunken means that they were ranked by."""
    found = []
    for finalist, estimate in chosen:
        scores = finalist.trial.user_attrs.get("scores") or finalist.values
        searched = mean(scores)
        found.append(
            Decided(
                block=0,
                finalist=finalist.rank,
                trial=finalist.number,
                verdict="enters",
                seeds=len(scores),
                mean=estimate,
                why=f"mean {as_score(searched)} in the search, shrunken to"
                f" {as_score(estimate, like=searched)}",
            )
        )
    return found


def last(decided: Sequence[Decided]) -> list[Decided]:
    """What was decided last."""
    block = max(each.block for each in decided)
    return [each for each in decided if each.block == block]


def winner(decided: Sequence[Decided]) -> int | None:
    """The rank of the one that has won, by what was decided last."""
    won = ("wins", *VERDICTS)
    return next((each.finalist for each in last(decided) if each.verdict in won), None)


def of_the_race(decided: Sequence[Decided]) -> list[Decided]:
    """The decisions of the race alone, without those of a confirmation."""
    return [each for each in decided if each.verdict not in VERDICTS]


def ends(decided: Sequence[Decided]) -> dict[int, Decided]:
    """What the race decided last of each finalist, by rank."""
    return {each.finalist: each for each in of_the_race(decided)}


def standing(decided: Sequence[Decided]) -> list[int]:
    """The ranks of those that have neither been removed nor failed."""
    return sorted(rank for rank, end in ends(decided).items() if end.verdict not in _GONE)


def removed(decided: Sequence[Decided]) -> list[int]:
    """The ranks of those that have been removed, and have not failed."""
    return sorted(rank for rank, end in ends(decided).items() if end.verdict == "out")


def to_train(decided: Sequence[Decided]) -> list[int]:
    """The ranks of those that train another block."""
    return [each.finalist for each in last(decided) if each.verdict in ("enters", "stays")]


def to_confirm(decided: Sequence[Decided]) -> Decided | None:
    """What was decided last of the winner, if seeds that confirm it follow from that."""
    return next((each for each in last(decided) if each.verdict in ("wins", "confirming")), None)


def undecided(decided: Sequence[Decided], trials: Sequence[FrozenTrial], given: Rules) -> bool:
    """Whether another decision follows from the trials of the next block."""
    if to_train(decided) or unconfirmed(decided, trials):
        return True
    return given.narrowing is not None and to_confirm(decided) is not None


def after(
    block: int,
    decided: Sequence[Decided],
    trials: Sequence[FrozenTrial],
    curves: Mapping[int, Curve],
    given: Rules,
) -> list[Decided]:
    """What is decided after this block: of those that race, or of the winner's confirmation.

    Args:
        block: All its trials have ended.
        decided: After the blocks before it.
        trials: Of the final stage, without those that another has replaced.
        curves: Of the final stage's returns, by trial number.
        given: The race's rules.
    """
    entered = {each.finalist: each for each in decided if each.block == 0}
    won = winner(decided)
    if won is not None and given.narrowing and not unconfirmed(decided, trials):
        return [_narrowed(entered[won], block, trials, given.narrowing)]
    racers = [_racer(entered[rank], block, trials, curves) for rank in standing(decided)]
    if all(racer.failures for racer in racers):
        # The winner could not be confirmed. Whoever had left for it is better than nobody.
        racers += [_racer(entered[rank], block, trials, curves) for rank in removed(decided)]
    return sorted(
        (_decided(each, block, entered[each.finalist].trial) for each in decide(racers, given)),
        key=lambda each: each.finalist,
    )


def again(
    decided: Sequence[Decided],
    trials: Sequence[FrozenTrial],
    curves: Mapping[int, Curve],
    given: Rules,
) -> list[Decided]:
    """The decisions after each block, made anew from the trials alone.

    Args:
        decided: Those of block 0, as they are made anew.
        trials: As for `after`.
        curves: As for `after`.
        given: The race's rules.
    """
    made = list(decided)
    trained = max((trial.user_attrs[BLOCK] for trial in trials), default=0)
    block = 1
    while block <= trained and undecided(made, trials, given):
        made += after(block, made, trials, curves, given)
        block += 1
    return made


def unconfirmed(decided: Sequence[Decided], trials: Sequence[FrozenTrial]) -> bool:
    """Whether one has won, and then a trial that was to confirm it failed."""
    block = last(decided)[0].block + 1
    return winner(decided) is not None and any(
        trial.user_attrs[BLOCK] == block
        and trial.user_attrs.get(CONFIRMS)
        and trial.state != TrialState.COMPLETE
        for trial in trials
    )


def of_race(rank: int, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """A finalist's trials of the race."""
    return [trial for trial in _own(rank, trials) if not trial.user_attrs.get(CONFIRMS)]


def confirming(rank: int, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """A finalist's trials of its confirmation."""
    return [trial for trial in _own(rank, trials) if trial.user_attrs.get(CONFIRMS)]


def _own(rank: int, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.user_attrs["finalist"] == rank]


def _narrowed(
    entry: Decided, block: int, trials: Sequence[FrozenTrial], given: Narrowing
) -> Decided:
    """What is decided of the winner after a block of its confirmation."""
    scores = [
        score
        for trial in confirming(entry.finalist, trials)
        if trial.user_attrs[BLOCK] <= block
        for score in trial.user_attrs["scores"]
    ]
    verdict, why = given.decide(scores)
    return Decided(
        block=block,
        finalist=entry.finalist,
        trial=entry.trial,
        verdict=verdict,
        seeds=len(scores),
        mean=mean(scores),
        why=why,
    )


def _racer(
    entry: Decided, block: int, trials: Sequence[FrozenTrial], curves: Mapping[int, Curve]
) -> Racer:
    """A finalist as it stands after a block. One that failed to be confirmed has failed, too."""
    assert entry.mean is not None
    rank = entry.finalist
    own = [trial for trial in _own(rank, trials) if trial.user_attrs[BLOCK] <= block]
    raced = [trial for trial in of_race(rank, own) if trial.state == TrialState.COMPLETE]
    areas = [
        curve_area({step: returns[agent] for step, returns in curves.get(trial.number, [])})
        for trial in raced
        for agent in range(len(trial.user_attrs["scores"]))
    ]
    return Racer(
        rank=rank,
        estimate=entry.mean,
        searched=entry.seeds,
        scores=[score for trial in raced for score in trial.user_attrs["scores"]],
        area=mean(areas) if areas else 0.0,
        failures=[
            str(trial.user_attrs.get("reason", "no reason recorded"))
            for trial in own
            if trial.state != TrialState.COMPLETE
        ],
    )


def _decided(decision: Decision, block: int, trial: int) -> Decided:
    return Decided(
        block=block,
        finalist=decision.finalist,
        trial=trial,
        verdict=decision.verdict,
        seeds=decision.seeds,
        mean=decision.mean,
        p=decision.p,
        level=decision.level,
        why=decision.why,
    )
