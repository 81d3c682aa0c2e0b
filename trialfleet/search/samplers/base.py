"""What every sampler of a study file is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialfleet.checking.fields import Strict
from trialfleet.checking.rules import Whole
from trialfleet.search import fixed
from trialfleet.search.parameters import encode

if TYPE_CHECKING:
    from optuna import samplers

    from trialfleet.search.numbered.visits import Visits
    from trialfleet.study.spec import Spec

TRIALS = Whole(0, 1_000_000)


class Sampler(Strict):
    """Suggests the searched knobs' values for a trial. Its fields are its options."""

    name: str

    def check(self, spec: Spec) -> None:
        """Refuse a study that this sampler cannot search; raises FieldError."""

    def build(self, spec: Spec, seed: int) -> samplers.BaseSampler:
        """Optuna's sampler for one trial, which has this seed to itself."""
        raise NotImplementedError

    def visits(self, spec: Spec) -> Visits | None:
        """Which configuration each trial has, where there is an end to them and each is one's own.

        What it returns knows of no trial yet.
        """
        return None

    def count(self, spec: Spec) -> int | None:
        """How many trials it has, each configuration tried once; None if there is no end to them.

        Of enqueued configurations those are beside them that the sampler would not try.
        """
        if (visits := self.visits(spec)) is None:
            return None
        for number, table in enumerate(spec.enqueue):
            values = fixed.checked(table, spec.agent)
            visits.enqueued(number, encode(values, spec.agent))
        return visits.most

    def generation_key(self) -> str | None:
        """The system attribute that says of which generation a trial is, where there are any."""
        return None

    def probe(self, spec: Spec) -> None:
        """Import what it names of the user's, and try it; raises FieldError."""
