"""What a race came to: the finalists as it left them, and the winner as it was confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from coordinator.certainty import LEVEL, certainty
from coordinator.fresh import Fresh, agents_of, fresh
from coordinator.intervals import share_at_least
from coordinator.race import rounds
from coordinator.race.course import entered
from coordinator.race.narrowing import Narrowing
from trialfleet.store.metrics import Curve
from trialfleet.store.steering.decisions import Decided
from trialfleet.study.spec import Spec
from trialfleet.study.values import center, gap, mean

# Attribute of a confirming trial: the return from which its environment counts as solved.
THRESHOLD = "reward_threshold"


def finalists(
    decided: Sequence[Decided],
    search: Sequence[FrozenTrial],
    final: Sequence[FrozenTrial],
    curves: dict[int, Curve],
    spec: Spec,
) -> list[Fresh]:
    """Each finalist's row, on the seeds that it had in the race, and what became of it."""
    estimates = {each.finalist: each.mean for each in decided if each.block == 0}
    ends = rounds.ends(decided)
    found = []
    racers = entered(decided, search)
    for finalist in racers:
        end = ends[finalist.rank]
        own = rounds.of_race(finalist.rank, final)
        one = fresh(finalist, own, curves, spec, finalists=len(racers))
        if end.verdict == "failed" and not one.row["failures"]:
            one.row["failures"] = [end.why]  # it could not be confirmed
        one.row.update(
            estimate=estimates[finalist.rank],
            verdict=end.verdict,
            block=end.block,
            why=end.why,
        )
        found.append(one)
    return found


def summary(decided: Sequence[Decided], found: Sequence[Fresh], spec: Spec) -> dict[str, Any]:
    """The race in numbers."""
    given, ends = rounds.rules(spec, len(found)), rounds.ends(decided).values()
    return {
        "top": spec.final.top,
        "blocks": max(each.block for each in rounds.of_the_race(decided)),
        "block_seeds": given.seeds,
        "most_blocks": given.blocks,
        "error": given.error,
        "seeds": sum(each.seeds for each in ends),  # of all finalists
        "most_seeds": len(found) * given.seeds * given.blocks,
        "equivalent": [each.finalist for each in ends if each.verdict == "equivalent"],
    }


def confirmed(
    winner: Fresh, final: Sequence[FrozenTrial], curves: dict[int, Curve], spec: Spec
) -> tuple[Fresh, dict[str, Any]]:
    """The winner on the seeds that confirm it, and what is known from them.

    Args:
        winner: Its row of the race.
        final: The trials that confirm it, all COMPLETE.
        curves: Of the final stage's returns, by trial number.
        spec: The study file.

    Returns:
        The winner with its agents of the confirmation; their numbers as JSON, of which `solved` is
        None where nobody says what a solved task returns, and `until` where the study says how
        many seeds they are.
    """
    row = winner.row
    agents = [agent for trial in final for agent in agents_of(trial, curves)]
    scores = [agent.score for agent in agents]
    found_mean = mean(scores)
    found = {
        "rank": row["rank"],
        "trial": row["trial"],
        "scores": scores,
        "seeds": [agent.seed for agent in agents],
        "mean": found_mean,
        "iqm": float(center(np.asarray(scores), "iqm")),
        **certainty(scores, spec.returns, sequential=_sequential(spec)).as_row(),
        "search_score": row["search_score"],
        "gap": gap(row["search_score"], found_mean),
        "area": mean([agent.area for agent in agents]),
        "until": _until(scores, spec),
        "solved": _solved(scores, _threshold(final, spec), sequential=_sequential(spec)),
    }
    return replace(winner, row={**row, **found}, agents=agents), found


def _until(scores: Sequence[float], spec: Spec) -> dict[str, Any] | None:
    """What the seeds were to reach, and whether they did; None where their number is fixed."""
    narrowing = Narrowing.of(spec)
    if narrowing is None:
        return None
    reached = narrowing.narrow(narrowing.interval(scores))
    return {"width": narrowing.width, "most": narrowing.most, "reached": reached}


def _sequential(spec: Spec) -> bool:
    """Whether the scores decided how many seeds confirm the winner."""
    return spec.final.until is not None


def _solved(
    scores: Sequence[float], threshold: float | None, *, sequential: bool
) -> dict[str, Any] | None:
    """How many seeds solved the task, and how many of all seeds do at least."""
    if threshold is None:
        return None
    solved = sum(score >= threshold for score in scores)
    return {
        "threshold": threshold,
        "seeds": solved,
        "of": len(scores),
        "at_least": share_at_least(solved, len(scores), level=LEVEL, sequential=sequential),
        "level": LEVEL,
        "sequential": sequential,
    }


def _threshold(final: Sequence[FrozenTrial], spec: Spec) -> float | None:
    """What the study file says, else what the workers found to be the environment's own."""
    if spec.final.solved is not None:
        return spec.final.solved
    found = {trial.user_attrs.get(THRESHOLD) for trial in final}
    return found.pop() if len(found) == 1 else None
