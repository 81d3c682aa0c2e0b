"""Samplers that learn from the trials before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import model_validator

from trialfleet.checking.mistakes import FieldError
from trialfleet.checking.rules import Flag, Whole
from trialfleet.search.parameters import has_range
from trialfleet.search.samplers.base import TRIALS, Sampler

if TYPE_CHECKING:
    from optuna import samplers

    from trialfleet.study.spec import Spec


class Tpe(Sampler):
    """Tree-structured Parzen estimator: for any number of trials and every kind of knob."""

    name: Literal["tpe"] = "tpe"
    n_startup_trials: Annotated[int, TRIALS] = 10  # random trials before the model is used
    n_ei_candidates: Annotated[int, Whole(1, 10_000)] = 24  # candidates, of which the best is taken
    multivariate: Annotated[bool, Flag()] = True  # models the knobs together instead of one by one
    group: Annotated[bool, Flag()] = False  # a model for each group of knobs that exist together
    constant_liar: Annotated[bool, Flag()] = True  # keeps away from trials under way

    @model_validator(mode="after")
    def _group_is_multivariate(self) -> Tpe:
        if self.group and not self.multivariate:
            raise FieldError("true; must be false where multivariate = false", at="group")
        return self

    def build(self, spec: Spec, seed: int) -> samplers.BaseSampler:
        """Optuna's sampler."""
        from optuna.samplers import TPESampler

        return TPESampler(
            n_startup_trials=self.n_startup_trials,
            n_ei_candidates=self.n_ei_candidates,
            multivariate=self.multivariate,
            group=self.group,
            constant_liar=self.constant_liar,
            seed=seed,
        )


class Gp(Sampler):
    """A Gaussian process: the most from few trials, at seconds for each suggestion."""

    name: Literal["gp"] = "gp"
    n_startup_trials: Annotated[int, TRIALS] = 10  # random trials before the model is used
    # whether a configuration always has one score
    deterministic_objective: Annotated[bool, Flag()] = False

    def build(self, spec: Spec, seed: int) -> samplers.BaseSampler:
        """Optuna's sampler."""
        from optuna.samplers import GPSampler

        return GPSampler(
            n_startup_trials=self.n_startup_trials,
            deterministic_objective=self.deterministic_objective,
            seed=seed,
            warn_independent_sampling=False,
        )


class Cmaes(Sampler):
    """CMA-ES: for many trials and numeric knobs; choices are drawn at random."""

    name: Literal["cmaes"] = "cmaes"
    allow_pickle: Annotated[bool, Flag()] = False  # accepts that it unpickles; must be true
    n_startup_trials: Annotated[int, TRIALS] = 1  # random trials before the model is used
    # trials of a generation; follows from the number of knobs unless given
    popsize: Annotated[int | None, Whole(2, 10_000)] = None
    consider_pruned_trials: Annotated[bool, Flag()] = False  # learns from pruned trials, too
    use_separable_cma: Annotated[bool, Flag()] = False  # knobs without correlations
    # for knobs with steps, which may freeze without it
    with_margin: Annotated[bool, Flag()] = False
    lr_adapt: Annotated[bool, Flag()] = False  # adapts the learning rate; for noisy scores

    @model_validator(mode="after")
    def _options_agree(self) -> Cmaes:
        if not self.allow_pickle:
            raise FieldError(
                "the CMA-ES sampler unpickles study attributes, so whoever can write the database"
                " can run code on every worker; must be true to accept that, or"
                " use another sampler",
                at="allow_pickle",
            )
        if sum((self.use_separable_cma, self.with_margin, self.lr_adapt)) > 1:
            raise FieldError("only one of use_separable_cma, with_margin and lr_adapt; must be one")
        return self

    def check(self, spec: Spec) -> None:
        """CMA-ES moves along ranges, of which it needs one, and towards one objective."""
        if len(spec.search.objectives) > 1:
            raise FieldError(
                f'"cmaes" knows one objective and there are {len(spec.search.objectives)};'
                ' use another sampler such as "tpe"'
            )
        if not has_range(spec.agent):
            raise FieldError(
                '"cmaes" searches ranges and [agent] has none; use another sampler such as "tpe"'
            )

    def build(self, spec: Spec, seed: int) -> samplers.BaseSampler:
        """Optuna's sampler."""
        from optuna.samplers import CmaEsSampler

        return CmaEsSampler(
            n_startup_trials=self.n_startup_trials,
            popsize=self.popsize,
            consider_pruned_trials=self.consider_pruned_trials,
            use_separable_cma=self.use_separable_cma,
            with_margin=self.with_margin,
            lr_adapt=self.lr_adapt,
            seed=seed,
            warn_independent_sampling=False,
        )
