"""Samplers that learn nothing: random and low-discrepancy points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from trialfleet.checking.rules import Flag, OneOf
from trialfleet.search.samplers.base import Sampler

if TYPE_CHECKING:
    from optuna import samplers

    from trialfleet.study.spec import Spec


class Random(Sampler):
    """Independent uniform draws: the baseline that a sampler has to beat."""

    name: Literal["random"] = "random"

    def build(self, spec: Spec, seed: int) -> samplers.BaseSampler:
        """Optuna's sampler."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)


class Qmc(Sampler):
    """A low-discrepancy sequence: more even than chance. Trial n gets the sequence's point n."""

    name: Literal["qmc"] = "qmc"
    qmc_type: Annotated[str, OneOf(("sobol", "halton"))] = "sobol"  # the sequence
    scramble: Annotated[bool, Flag()] = True  # shuffled by the seed; else point 0 is a corner

    def build(self, spec: Spec, seed: int) -> samplers.BaseSampler:
        """Optuna's sampler, told which point of the sequence is the trial's."""
        from trialfleet.search.numbered.qmc import NumberedQMCSampler
        from trialfleet.seeds import shared_seed

        return NumberedQMCSampler(
            spec.agent,
            qmc_type=self.qmc_type,
            scramble=self.scramble,
            seed=shared_seed(spec.seed),
            independent_seed=seed,
        )
