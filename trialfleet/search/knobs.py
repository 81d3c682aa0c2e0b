"""The agent's knobs: each is a fixed value, a range, or a list of choices.

The names are those of Stable-Baselines3's DQN:
https://stable-baselines3.readthedocs.io/en/master/modules/dqn.html
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from trialfleet.checking.fields import Checked, Flag, OneOf, Real, Rule, Strict, Whole, Widths
from trialfleet.checking.mistakes import FieldError, shown, unknown_key


class IntRange(Strict):
    """Every whole number from low to high, or every step-th of them."""

    low: int
    high: int
    log: bool = False  # drawn evenly on a logarithmic scale
    step: int | None = None


class FloatRange(Strict):
    """Every number from low to high, or those a whole number of steps above low."""

    low: float
    high: float
    log: bool = False  # drawn evenly on a logarithmic scale
    step: float | None = None


class Choices(Strict):
    """One of a list of values, all legal for the knob and all different."""

    choices: tuple[Any, ...]


Range = IntRange | FloatRange
Knob = bool | int | float | str | tuple[int, ...] | IntRange | FloatRange | Choices
IntKnob = int | IntRange | Choices
FloatKnob = float | FloatRange | Choices

_MAX_CHOICES = 1_000
_MAX_STEPS = 1_000_000_000


def searchable(rule: Rule) -> Checked:
    """A field that takes what the rule allows, or a table that says where to search."""
    return Checked(lambda value: _knob(value, rule))


class Agent(Strict):
    """The DQN's hyperparameters; the defaults are SB3's where these suit a short CartPole run."""

    # Adam's step size
    learning_rate: Annotated[FloatKnob, searchable(Real(0, 1, above=True))] = 1e-3
    # discount of the next step's value
    gamma: Annotated[FloatKnob, searchable(Real(0, 1))] = 0.99
    # transitions in a gradient step
    batch_size: Annotated[IntKnob, searchable(Whole(1, 65_536))] = 64
    # transitions that each agent remembers
    buffer_size: Annotated[IntKnob, searchable(Whole(1, 10_000_000))] = 50_000
    # environment steps before the first gradient step
    learning_starts: Annotated[IntKnob, searchable(Whole(0, 1_000_000_000))] = 1_000
    # environment steps between rounds of gradient steps
    train_freq: Annotated[IntKnob, searchable(Whole(1, 1_000_000))] = 4
    # gradient steps in a round; -1: as many as there were environment steps
    gradient_steps: Annotated[IntKnob, searchable(Whole(1, 1_000_000, also=(-1,)))] = 1
    # environment steps between updates of the target network
    target_update_interval: Annotated[IntKnob, searchable(Whole(1, 1_000_000_000))] = 250
    # share of the online network in such an update; 1 copies it
    tau: Annotated[FloatKnob, searchable(Real(0, 1, above=True))] = 1.0
    # chance of a random action at the first step
    exploration_initial_eps: Annotated[FloatKnob, searchable(Real(0, 1))] = 1.0
    # part of the training over which that chance falls to its final value
    exploration_fraction: Annotated[FloatKnob, searchable(Real(0, 1))] = 0.2
    # chance of a random action from then on
    exploration_final_eps: Annotated[FloatKnob, searchable(Real(0, 1))] = 0.05
    # the gradient's norm is clipped to this
    max_grad_norm: Annotated[FloatKnob, searchable(Real(0, 1e9, above=True))] = 10.0
    # widths of the hidden layers
    net_arch: Annotated[tuple[int, ...] | Choices, searchable(Widths())] = (64, 64)
    # of the temporal-difference error
    loss: Annotated[str | Choices, searchable(OneOf(("huber", "mse")))] = "huber"
    # the online network chooses the next action, the target network values it
    double_q: Annotated[bool | Choices, searchable(Flag())] = True
    # of an update's matrix products: bf16 is faster on a CPU or GPU that has it, and rounds more
    precision: Annotated[str | Choices, searchable(OneOf(("fp32", "bf16")))] = "fp32"

    def knobs(self) -> dict[str, Knob]:
        """Every knob in the order above."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    def searched(self) -> dict[str, IntRange | FloatRange | Choices]:
        """The knobs that a sampler sets, in the order above."""
        return {
            name: knob
            for name, knob in self.knobs().items()
            if isinstance(knob, IntRange | FloatRange | Choices)
        }


def smallest(knob: IntKnob) -> int:
    """The least value the knob can take."""
    match knob:
        case IntRange():
            return knob.low
        case Choices():
            return min(int(choice) for choice in knob.choices)
    return knob


def largest(knob: IntKnob) -> int:
    """The greatest value the knob can take."""
    match knob:
        case IntRange():
            return knob.high
        case Choices():
            return max(int(choice) for choice in knob.choices)
    return knob


def _knob(value: object, rule: Rule) -> Knob:
    if isinstance(value, IntRange | FloatRange | Choices):
        value = value.model_dump(exclude_none=True)
    if not isinstance(value, dict):
        checked: Knob = rule.check(value)
        return checked
    for key in value:
        if key not in ("low", "high", "log", "step", "choices"):
            raise unknown_key(key, ("low", "high", "log", "step", "choices"))
    if "choices" in value:
        return _choices(value, rule)
    if isinstance(rule, Whole | Real):
        return _range(value, rule)
    raise FieldError("a range; must be a list of choices, { choices = […] }, or a plain value")


def _choices(table: dict[str, object], rule: Rule) -> Choices:
    for key in table:
        if key != "choices":
            raise FieldError("goes with low and high; must not stand beside choices", at=key)
    given = table["choices"]
    if not isinstance(given, list | tuple) or not 1 <= len(given) <= _MAX_CHOICES:
        found = "an empty list" if given in ([], ()) else shown(given)
        raise FieldError(f"{found}; must be a list of 1 to {_MAX_CHOICES} values", at="choices")
    values: list[object] = []
    for position, each in enumerate(given):
        at = f"choices[{position}]"
        value = _under(at, rule, each)
        if value in values:
            raise FieldError(f"{shown(each)} is there twice; must be unlike the others", at=at)
        values.append(value)
    return Choices(choices=tuple(values))


def _range(table: dict[str, object], rule: Whole | Real) -> Range:
    # A range takes no single values outside of the rule's own: between them lie illegal ones.
    ends = Whole(rule.low, rule.high) if isinstance(rule, Whole) else rule
    for key in ("low", "high"):
        if key not in table:
            raise FieldError("is missing; a range must have low and high", at=key)
    low, high = (_under(key, ends, table[key]) for key in ("low", "high"))
    log = _under("log", Flag(), table.get("log", False))
    if low == high:
        raise FieldError(
            f"{shown(low)} is also high; must be below it; or use a plain value", at="low"
        )
    if low > high:
        raise FieldError(f"{shown(low)} is above high ({shown(high)}); must be below it", at="low")
    if log and low <= 0:
        raise FieldError(f"{shown(low)}; must be above 0 where log = true", at="low")
    step = None
    if "step" in table:
        if log:
            raise FieldError("stands beside log = true; must be left out there", at="step")
        step = _step(table["step"], low, high, whole=isinstance(rule, Whole))
    if isinstance(rule, Whole):
        return IntRange(low=low, high=high, log=log, step=step)
    return FloatRange(low=low, high=high, log=log, step=step)


def _step(value: object, low: Any, high: Any, *, whole: bool) -> Any:
    # In decimals, as the user wrote them: 0.3 is three steps of 0.1, which floats deny.
    width = Decimal(str(high)) - Decimal(str(low))
    rule: Rule = Whole(1, int(width)) if whole else Real(0, float(width), above=True)
    step = _under("step", rule, value)
    if float(width) / step > _MAX_STEPS:
        raise FieldError(
            f"{shown(step)} is too small; must take at most {_MAX_STEPS} steps", at="step"
        )
    reached = (width // Decimal(str(step))) * Decimal(str(step)) + Decimal(str(low))
    if reached != Decimal(str(high)):
        raise FieldError(
            f"{shown(step)} leads from {shown(low)} to {reached}, past which high ({shown(high)})"
            f" is not reached; must divide the range (or use high = {reached})",
            at="step",
        )
    return step


def _under(at: str, rule: Rule, value: object) -> Any:
    try:
        return rule.check(value)
    except FieldError as problem:
        raise problem.under(at) from None
