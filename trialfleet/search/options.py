"""Which samplers and pruners a study may name, and the options of each.

The names are Optuna 5's. Left out are its deprecated options and those that make no sense with a
space that never changes from trial to trial.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import model_validator

from trialfleet.checking.fields import Checked, Flag, OneOf, Real, Strict, Whole
from trialfleet.checking.mistakes import FieldError, nearest, shown, unknown_key

_TRIALS = Checked(Whole(0, 1_000_000).check)
_STEPS = Checked(Whole(0, 1_000_000_000).check)
_FLAG = Checked(Flag().check)


class Tpe(Strict):
    """Tree-structured Parzen estimator: for any number of trials and every kind of knob."""

    name: Literal["tpe"] = "tpe"
    n_startup_trials: Annotated[int, _TRIALS] = 10  # random ones before the model is trusted
    n_ei_candidates: Annotated[int, Checked(Whole(1, 10_000).check)] = 24
    multivariate: Annotated[bool, _FLAG] = True  # models the knobs together, not one by one
    group: Annotated[bool, _FLAG] = False  # experimental in Optuna; needs multivariate
    constant_liar: Annotated[bool, _FLAG] = True  # keeps away from what other workers try now

    @model_validator(mode="after")
    def _group_is_multivariate(self) -> Tpe:
        if self.group and not self.multivariate:
            raise FieldError("true; must be false where multivariate = false", at="group")
        return self


class Random(Strict):
    """Independent uniform draws: the baseline that a sampler has to beat."""

    name: Literal["random"] = "random"


class Qmc(Strict):
    """A low-discrepancy sequence: more even than chance. Trial n gets the sequence's point n."""

    name: Literal["qmc"] = "qmc"
    qmc_type: Annotated[str, Checked(OneOf(("sobol", "halton")).check)] = "sobol"
    scramble: Annotated[bool, _FLAG] = True  # by a seed of the study's; else point 0 is a corner


class Gp(Strict):
    """A Gaussian process: the most from few trials, at seconds for each suggestion."""

    name: Literal["gp"] = "gp"
    n_startup_trials: Annotated[int, _TRIALS] = 10  # random ones before the model is trusted
    deterministic_objective: Annotated[bool, _FLAG] = False  # a score of a few seeds is noisy


class Cmaes(Strict):
    """CMA-ES: for many trials and numeric knobs; choices are drawn at random."""

    name: Literal["cmaes"] = "cmaes"
    allow_pickle: Annotated[bool, _FLAG] = False  # no study without it; see below
    n_startup_trials: Annotated[int, _TRIALS] = 1
    popsize: Annotated[int | None, Checked(Whole(2, 10_000).check)] = None
    consider_pruned_trials: Annotated[bool, _FLAG] = False  # wise beside hyperband
    use_separable_cma: Annotated[bool, _FLAG] = False
    with_margin: Annotated[bool, _FLAG] = False  # keeps stepped knobs from freezing
    lr_adapt: Annotated[bool, _FLAG] = False  # for noisy scores

    @model_validator(mode="after")
    def _pickle_is_allowed(self) -> Cmaes:
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


class NoPruner(Strict):
    """Every trial trains to its end."""

    name: Literal["none"] = "none"


class Median(Strict):
    """Prunes what is below the median of the completed trials at the same step."""

    name: Literal["median"] = "median"
    n_startup_trials: Annotated[int, _TRIALS] = 5  # completed ones before any is pruned
    n_warmup_steps: Annotated[int, _STEPS] = 0  # environment steps without pruning
    n_min_trials: Annotated[int, Checked(Whole(1, 1_000_000).check)] = 1


class Percentile(Strict):
    """Prunes what is not in the best `percentile` per cent of the completed trials."""

    name: Literal["percentile"] = "percentile"
    percentile: Annotated[float, Checked(Real(0, 100).check)] = 25.0  # how many stay
    n_startup_trials: Annotated[int, _TRIALS] = 5  # completed ones before any is pruned
    n_warmup_steps: Annotated[int, _STEPS] = 0  # environment steps without pruning
    n_min_trials: Annotated[int, Checked(Whole(1, 1_000_000).check)] = 1


class SuccessiveHalving(Strict):
    """At min_resource × reduction_factor^k environment steps, one of reduction_factor goes on.

    Optuna's bootstrap_count is not offered: it prunes a rung's first trials whatever their score.
    """

    name: Literal["successive_halving"] = "successive_halving"
    min_resource: Annotated[int | None, Checked(Whole(1, 1_000_000_000).check)] = None
    reduction_factor: Annotated[int, Checked(Whole(2, 100).check)] = 3
    min_early_stopping_rate: Annotated[int, Checked(Whole(0, 30).check)] = 0


class Hyperband(Strict):
    """Successive halving in several brackets, from hasty to patient."""

    name: Literal["hyperband"] = "hyperband"
    # environment steps before the hastiest bracket prunes; task.eval_every unless given
    min_resource: Annotated[int | None, Checked(Whole(1, 1_000_000_000).check)] = None
    reduction_factor: Annotated[int, Checked(Whole(2, 100).check)] = 3


Sampler = Tpe | Random | Qmc | Gp | Cmaes
Pruner = NoPruner | Median | Percentile | Hyperband | SuccessiveHalving

SAMPLERS: Mapping[str, type[Strict]] = {
    "tpe": Tpe,
    "random": Random,
    "qmc": Qmc,
    "gp": Gp,
    "cmaes": Cmaes,
}
PRUNERS: Mapping[str, type[Strict]] = {
    "none": NoPruner,
    "median": Median,
    "percentile": Percentile,
    "hyperband": Hyperband,
    "successive_halving": SuccessiveHalving,
}


def named(models: Mapping[str, type[Strict]]) -> Checked:
    """A field that takes one of these names, or a table of such a name and its options."""
    return Checked(lambda value: _named(value, models))


def _named(value: object, models: Mapping[str, type[Strict]]) -> Strict:
    if isinstance(value, Strict):
        value = value.model_dump(exclude_none=True)
    table = {"name": value} if isinstance(value, str) else value
    names = ", ".join(f'"{name}"' for name in models)
    if not isinstance(table, dict):
        raise FieldError(f'{shown(value)}; must be one of {names}, or {{ name = "…", options }}')
    if "name" not in table:
        raise FieldError(f"is missing; must be one of {names}", at="name")
    name = table["name"]
    model = models.get(name) if isinstance(name, str) else None
    if model is None:
        at = "name" if table is value else ""
        raise FieldError(f"{shown(name)}; must be one of {names}{nearest(name, models)}", at=at)
    for key in table:
        if key not in model.model_fields:
            raise unknown_key(key, model.model_fields)
    # Pydantic takes its mistakes over as this field's own.
    return model.model_validate(table)
