"""Genetic samplers: each generation is bred from the best of the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import model_validator

from trialfleet.checking.mistakes import FieldError
from trialfleet.checking.rules import OneOf, Real, Whole
from trialfleet.search.samplers.base import Sampler

if TYPE_CHECKING:
    from optuna import samplers

    from trialfleet.study.spec import Spec

# By name, with the number of parents that a child has.
_CROSSOVERS = {"uniform": 2, "blxalpha": 2, "sbx": 2, "vsbx": 2, "spx": 3, "undx": 3}


class _Genetic(Sampler):
    population_size: Annotated[int, Whole(2, 100_000)] = 50  # completed trials of a generation
    crossover: Annotated[str, OneOf(tuple(_CROSSOVERS))] = "uniform"  # how ranges are mixed
    crossover_prob: Annotated[float, Real(0, 1)] = 0.9  # that a child has several parents
    swapping_prob: Annotated[float, Real(0, 1)] = 0.5  # of each knob, in uniform crossover
    # probability that a knob is drawn anew; 1 / (number of knobs) unless given
    mutation_prob: Annotated[float | None, Real(0, 1)] = None

    @model_validator(mode="after")
    def _there_are_parents(self) -> _Genetic:
        least = _CROSSOVERS[self.crossover]
        if self.population_size < least:
            raise FieldError(
                f'{self.population_size}; must be at least {least} for "{self.crossover}"',
                at="population_size",
            )
        return self

    def _options(self, seed: int) -> dict[str, Any]:
        from optuna.samplers import nsgaii

        crossover: nsgaii.BaseCrossover
        match self.crossover:
            case "blxalpha":
                crossover = nsgaii.BLXAlphaCrossover()
            case "sbx":
                crossover = nsgaii.SBXCrossover()
            case "vsbx":
                crossover = nsgaii.VSBXCrossover()
            case "spx":
                crossover = nsgaii.SPXCrossover()
            case "undx":
                crossover = nsgaii.UNDXCrossover()
            case _:
                crossover = nsgaii.UniformCrossover(self.swapping_prob)
        return {
            "population_size": self.population_size,
            "mutation_prob": self.mutation_prob,
            "crossover": crossover,
            "crossover_prob": self.crossover_prob,
            "swapping_prob": self.swapping_prob,
            "seed": seed,
        }


class Nsga2(_Genetic):
    """NSGA-II: many trials, several objectives above all; pruned trials breed no others."""

    name: Literal["nsga2"] = "nsga2"

    def build(self, spec: Spec, seed: int) -> samplers.BaseSampler:
        """Optuna's sampler."""
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler(**self._options(seed))

    def generation_key(self) -> str:
        """As Optuna's sampler has it."""
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler._get_generation_key()


class Nsga3(_Genetic):
    """NSGA-III: the same for more than three objectives, spread by reference points."""

    name: Literal["nsga3"] = "nsga3"
    dividing_parameter: Annotated[int, Whole(1, 100)] = 3  # how densely the reference points lie

    def build(self, spec: Spec, seed: int) -> samplers.BaseSampler:
        """Optuna's sampler."""
        from optuna.samplers import NSGAIIISampler

        return NSGAIIISampler(dividing_parameter=self.dividing_parameter, **self._options(seed))

    def generation_key(self) -> str:
        """As Optuna's sampler has it."""
        from optuna.samplers import NSGAIIISampler

        return NSGAIIISampler._get_generation_key()
