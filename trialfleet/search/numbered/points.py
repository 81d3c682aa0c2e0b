"""All configurations of a finite space, numbered, without making a list of them.

Which parameters a configuration has depends on those that conditions name, its controls. For each
combination of controls the others are independent, so their values are the digits of a number.
"""

from __future__ import annotations

import bisect
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import accumulate
from typing import Any

from trialfleet.checking.mistakes import FieldError
from trialfleet.search.knobs import Choices, FloatRange, IntRange, SearchSpace
from trialfleet.search.parameters import Parameter, encoded, parameters

_MAX_CASES = 100_000


class Points:
    """Configurations, as Optuna's parameters, numbered from 0.

    Args:
        found: As `trialfleet.search.parameters.parameters` has them.
        values: Of each parameter, all different.
    """

    def __init__(self, found: Sequence[Parameter], values: Mapping[str, Sequence[Any]]) -> None:
        self._parameters, self._values = found, values
        self._controls = {name for each in found for name, _ in each.when}
        self._cases: list[dict[str, Any]] = []  # a value of each control that exists
        self._free: list[list[str]] = []  # the other parameters that exist then
        for case in self._combinations({}, 0):
            if len(self._cases) == _MAX_CASES:
                raise FieldError(f"conditions make more than {_MAX_CASES} cases; must be fewer")
            self._cases.append(case)
            self._free.append(
                [
                    each.name
                    for each in found
                    if each.name not in self._controls and each.exists(case)
                ]
            )
        sizes = [math.prod(len(values[name]) for name in free) for free in self._free]
        self._starts = [0, *accumulate(sizes)]
        self.count = self._starts[-1]

    @classmethod
    def of(cls, space: SearchSpace, *, most: int | None) -> Points:
        """Those of a space; of a range with more than `most` values, so many of them evenly."""
        found = parameters(space)
        return cls(found, {each.name: _values(each.knob, most) for each in found})

    @staticmethod
    def endless(space: SearchSpace) -> str | None:
        """A knob that is a range of all numbers, so that the space has no end."""
        for name, knob in space.searched().items():
            if isinstance(knob, FloatRange) and knob.step is None:
                return name
        return None

    def _combinations(self, case: dict[str, Any], at: int) -> Iterator[dict[str, Any]]:
        for position in range(at, len(self._parameters)):
            each = self._parameters[position]
            if each.name in self._controls and each.exists(case):
                for value in self._values[each.name]:
                    yield from self._combinations({**case, each.name: value}, position + 1)
                return
        yield case

    def at(self, index: int) -> dict[str, Any]:
        """The parameters of one of them, in the order in which they are suggested."""
        which = bisect.bisect_right(self._starts, index) - 1
        rest = index - self._starts[which]
        point = dict(self._cases[which])
        for name in self._free[which]:
            rest, digit = divmod(rest, len(self._values[name]))
            point[name] = self._values[name][digit]
        return {each.name: point[each.name] for each in self._parameters if each.name in point}

    def index_of(self, point: Mapping[str, Any]) -> int | None:
        """The number of a configuration; None if it is none of these."""
        case: dict[str, Any] = {}
        for each in self._parameters:
            if each.name in self._controls and each.exists(case):
                digit = _position(point.get(each.name), self._values[each.name])
                if digit is None:
                    return None
                case[each.name] = self._values[each.name][digit]
        which = self._cases.index(case)
        index, size = self._starts[which], 1
        for name in self._free[which]:
            digit = _position(point.get(name), self._values[name])
            if digit is None:
                return None
            index += digit * size
            size *= len(self._values[name])
        return index

    def fixing(self, params: Mapping[str, Any]) -> Points:
        """Those in which parameters have these values, whether the values are theirs or not."""
        values = {name: [params[name]] if name in params else v for name, v in self._values.items()}
        return Points(self._parameters, values)


def permuted(index: int, count: int, seed: int) -> int:
    """The index-th of the numbers 0 … count−1 in an order that the seed draws, which has no list.

    A Feistel network over the next even power of two, walked until it is back among the numbers:
    Black and Rogaway, "Ciphers with arbitrary finite domains" (2002).
    """
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(4):
            text = f"{seed} {half} {turn} {right}".encode()
            digest = hashlib.blake2b(text, digest_size=64).digest()
            left, right = right, left ^ (int.from_bytes(digest, "big") & mask)
        index = left << half | right
        if index < count:
            return index


class _Steps(Sequence[float]):
    """The values of a stepped range of numbers, as Optuna counts them."""

    def __init__(self, low: float, high: float, step: float) -> None:
        self._low, self._step = Decimal(str(low)), Decimal(str(step))
        self._count = int((Decimal(str(high)) - self._low) / self._step) + 1

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return float(self._low + index % self._count * self._step)


def _values(knob: IntRange | FloatRange | Choices, most: int | None) -> Sequence[Any]:
    match knob:
        case Choices():
            return [encoded(choice) for choice in knob.choices]
        case FloatRange(step=None):
            assert most is not None, "an endless space is refused before"
            return [_between(knob, place / (most - 1)) for place in range(most)]
        case FloatRange():
            assert knob.step is not None
            every: Sequence[Any] = _Steps(knob.low, knob.high, knob.step)
        case IntRange():
            every = range(knob.low, knob.high + 1, knob.step or 1)
    if most is None or len(every) <= most:
        return every
    if not knob.log:
        return [every[round(place * (len(every) - 1) / (most - 1))] for place in range(most)]
    near = [round(_between(knob, place / (most - 1))) for place in range(most)]
    return sorted(set(near))


def _between(knob: IntRange | FloatRange, share: float) -> float:
    """The number at this share of the way along a range."""
    if share in (0.0, 1.0):
        return knob.high if share else knob.low
    if knob.log:
        return float(knob.low * (knob.high / knob.low) ** share)
    return knob.low + (knob.high - knob.low) * share


def _position(value: Any, values: Sequence[Any]) -> int | None:
    """Which of the values it is; a stepped number may be off by its rounding."""
    if isinstance(value, float):
        for position, each in enumerate(values):
            if not isinstance(each, bool | str) and math.isclose(each, value, rel_tol=1e-9):
                return position
        return None
    for position, each in enumerate(values):
        if each == value and isinstance(each, bool) == isinstance(value, bool):
            return position
    return None
