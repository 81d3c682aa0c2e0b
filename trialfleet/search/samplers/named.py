"""Which samplers there are, by name; the user's own among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from trialfleet.checking.arguments import Arguments, made
from trialfleet.checking.fields import Named
from trialfleet.checking.imports import IMPORTED
from trialfleet.search.samplers.base import Sampler

if TYPE_CHECKING:
    from optuna import samplers

    from trialfleet.study.spec import Spec


class OwnSampler(Sampler):
    """A sampler of yours, or of a package: any of Optuna's `BaseSampler`s, made for each trial.

    A constructor that takes `seed` gets the trial's own.
    """

    name: Annotated[str, IMPORTED]  # the class
    args: Annotated[dict[str, Any], Arguments()] = Field(default_factory=dict)  # of its constructor

    def build(self, spec: Spec, seed: int) -> samplers.BaseSampler:
        """The user's sampler."""
        from optuna.samplers import BaseSampler

        return made(self.name, BaseSampler, self.args, seed=seed)  # type: ignore[type-abstract]

    def probe(self, spec: Spec) -> None:
        """Make one."""
        self.build(spec, 0)


SAMPLERS: dict[str, type[Sampler]] = {}  # filled where all of them are known
ANY_SAMPLER = Named(SAMPLERS, own=OwnSampler)
