"""Why a trial is pruned, and the share of pruned trials that are trained to their end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trialfleet.search.judges import History, Judge, Verdict
from trialfleet.seeds import audited
from trialfleet.store.leases import Claim
from trialfleet.store.storage import Database
from trialfleet.store.studies import Study
from trialfleet.store.trials import verdicts
from trialfleet.store.trials.verdicts import StoredVerdict
from worker.measuring import Taken


class Remembering:
    """A judge that keeps its last verdict and the rungs that the trial has completed.

    Args:
        judge: Who decides.
        rungs: What earlier attempts completed, up to where this one begins.
    """

    def __init__(self, judge: Judge, rungs: Mapping[str, float]) -> None:
        self._judge = judge
        self._rungs = dict(rungs)
        self._last = Verdict(prune=False)

    def judge(self, curve: Mapping[int, float], passed: int, history: History) -> Verdict:
        """What the judge says."""
        self._last = self._judge.judge(curve, passed, history)
        self._rungs.update(self._last.attributes)
        return self._last

    def stored(
        self, step: int, taken: Taken, scores: NDArray[np.float64], seeds: Sequence[int]
    ) -> StoredVerdict:
        """The verdict that ended the trial, with the mean return and seed of each agent [S]."""
        why = self._last.why
        return StoredVerdict(
            step=step,
            value=taken.values[0],
            attributes={
                **taken.attributes,
                "scores": scores.tolist(),
                "seeds": list(seeds),
                "steps": step * len(seeds),
                **({"pruned_by": why.as_dict()} if why else {}),
            },
            rungs={**self._rungs, **taken.system},
        )


class Audit:
    """The verdict on the trial at hand, where it is one that is trained on after it."""

    def __init__(self, database: Database, study: Study, claim: Claim) -> None:
        self._database, self._claim = database, claim
        spec = study.spec
        self.chosen = claim.stage == "search" and audited(
            spec.seed, claim.number, spec.search.audit
        )
        self.verdict: StoredVerdict | None = None

    def resume(self) -> None:
        """Find the verdict of an earlier attempt, and complete its rungs again. May be repeated."""
        if not self.chosen:
            return
        with self._database.transaction(self._claim.fence) as connection:
            self.verdict = verdicts.read(connection, self._claim.trial_id)
            if self.verdict is not None:
                rungs = self.verdict.rungs
                verdicts.set_system_attributes(connection, self._claim.trial_id, rungs)

    def begin(self, verdict: StoredVerdict) -> None:
        """Store the verdict before the training goes on. May be repeated."""
        attributes = {verdicts.KEY: verdict.as_dict(), **verdict.rungs}
        with self._database.transaction(self._claim.fence) as connection:
            verdicts.set_system_attributes(connection, self._claim.trial_id, attributes)
        self.verdict = verdict

    def reports(self, step: int) -> bool:
        """Whether others may see the evaluation at `step`: nothing after a verdict is theirs."""
        return self.verdict is None or step <= self.verdict.step
