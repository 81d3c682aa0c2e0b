"""Where a study's compute went: agent-steps and worker-seconds by what became of them.

Worker-seconds are the time that workers held trials. A worker computes in one thread, so they bound
the CPU-seconds from above.
"""

from __future__ import annotations

from dataclasses import dataclass

from optuna.trial import FrozenTrial

from coordinator.report.data import StudyData
from trialfleet.store.trials.attempts import TrialAttempt

# In the order of the account; what each means stands beside it on the page.
KINDS = {
    "completed": "search trials that were trained to their end",
    "pruned": "search trials that the pruner ended",
    "failed": "trials that failed, with their reasons below",
    "final": "the final stage, on fresh seeds",
    "given back": "attempts that were asked to stop; their trials went on from a checkpoint",
    "lost": "attempts whose worker died or fell silent; at most so much was trained again",
    "under way": "attempts that run now",
}
_OF_STATE = {"COMPLETE": "completed", "PRUNED": "pruned", "FAIL": "failed"}


@dataclass(kw_only=True)
class Entry:
    """One kind of the account."""

    kind: str  # of KINDS
    attempts: int = 0
    agent_steps: int = 0
    worker_seconds: float = 0.0


def account(data: StudyData) -> list[Entry]:
    """The account, without the kinds of which there is nothing.

    An attempt's steps are known up to its last report. A finished trial's count in full where it
    finished; those of a lost attempt are counted beside them, an upper bound of what was repeated.
    """
    entries = {kind: Entry(kind=kind) for kind in KINDS}
    trials = data.trials
    for attempt in data.attempts:
        trial = trials.get((attempt.study_id, attempt.number))
        kind = kind_of(data, attempt, trial)
        entry = entries[kind]
        entry.attempts += 1
        entry.worker_seconds += attempt.seconds
        if kind != "given back":  # the attempt that goes on from its checkpoint has them
            entry.agent_steps += attempt.step * agents(data, trial)
    return [entry for entry in entries.values() if entry.attempts]


def kind_of(data: StudyData, attempt: TrialAttempt, trial: FrozenTrial | None) -> str:
    """What became of an attempt, one of `KINDS`; `trial` is None if another has replaced it."""
    match attempt.outcome:
        case "lost":
            return "lost"
        case "released":
            return "given back"
        case "finished" if trial is None or trial.state.is_finished():
            state = "completed" if trial is None else _OF_STATE[trial.state.name]
            final = attempt.study_id == data.study.final_id
            return "final" if final and state != "failed" else state
    return "under way"


def agents(data: StudyData, trial: FrozenTrial | None) -> int:
    """How many agents a trial trains at once."""
    seeds = trial.user_attrs.get("seeds") if trial is not None else None
    return len(seeds) if seeds else data.study.spec.task.seeds
