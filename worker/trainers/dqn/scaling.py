"""Observations of each agent as its network sees them: shifted and scaled by what it has seen.

A network learns more slowly from inputs of unlike sizes. So an agent keeps the mean and the
deviation of the observations that it has acted on, in training, and its networks pass through
(observation - mean) / deviation. The replay memory holds the observations themselves, so what was
seen early is scaled by what is known now, as in Stable-Baselines3's VecNormalize; unlike there,
nothing is clipped, so that a saved agent's first layer can take the scaling over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# An input whose deviation is below this, relative to its mean, has never changed.
_UNCHANGED = 1e-6


class Scaling:
    """Mean and factor of each of S agents' observations, [S, O] both."""

    def __init__(self, stack: int, observation_size: int, device: str | torch.device) -> None:
        self.mean = torch.zeros(stack, observation_size, device=device)
        self.factor = torch.ones(stack, observation_size, device=device)
        # The same memory for NumPy, where it can be had.
        self.on_host = (
            (self.mean.numpy(), self.factor.numpy()) if self.mean.device.type == "cpu" else None
        )

    def __call__(self, observations: Tensor, *, inputs: int = -1) -> Tensor:
        """The observations [S, …] as networks see them; O is the dimension `inputs`."""
        shape = [1] * observations.dim()
        shape[0], shape[inputs] = self.mean.shape
        return (observations - self.mean.view(shape)) * self.factor.view(shape)

    def copy_(self, other: Scaling, rows: Tensor | None = None) -> None:
        """Take over the other's, of the agents in `rows` [S, 1], or of all."""
        for own, given in ((self.mean, other.mean), (self.factor, other.factor)):
            own.copy_(given if rows is None else torch.where(rows, given, own))

    def state(self) -> dict[str, Tensor]:
        """Copies of both."""
        return {"mean": self.mean.clone(), "factor": self.factor.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Become what `state` was taken of."""
        self.mean.copy_(state["mean"])
        self.factor.copy_(state["factor"])

    def named_arrays(self) -> dict[str, NDArray[np.float32]]:
        """Copies by name: `observation.mean` [S, O], `observation.factor` [S, O]."""
        return {f"observation.{name}": x.cpu().numpy() for name, x in self.state().items()}


class Statistics:
    """What each of S agents has seen: count, mean and sum of squared deviations."""

    def __init__(self, stack: int, observation_size: int) -> None:
        self._count = 0
        self._mean = np.zeros((stack, observation_size))  # [S, O]
        self._squares = np.zeros((stack, observation_size))  # [S, O]

    def add(self, observations: NDArray[np.floating]) -> None:
        """Count observations [T, S, O] in (Chan, Golub and LeVeque, 1983)."""
        seen = np.asarray(observations, np.float64)
        new = len(seen)
        with np.errstate(over="ignore", invalid="ignore"):  # refused where the losses are
            # Running sums add in order, whatever the number of agents.
            mean = np.cumsum(seen, axis=0)[-1] / new
            squares = np.cumsum(np.square(seen - mean), axis=0)[-1]
            total, delta = self._count + new, mean - self._mean
            self._mean = self._mean + delta * (new / total)
            self._squares = self._squares + squares + np.square(delta) * (self._count * new / total)
        self._count = total

    def write(self, scaling: Scaling) -> None:
        """Scale by what was seen so far. An input that has never changed is only shifted."""
        deviation = np.sqrt(self._squares / max(self._count, 1))
        changed = deviation > _UNCHANGED * (1.0 + np.abs(self._mean))
        factor = 1.0 / np.where(changed, deviation, 1.0)
        scaling.mean.copy_(torch.from_numpy(self._mean))
        scaling.factor.copy_(torch.from_numpy(factor))

    def state(self) -> dict[str, Tensor]:
        """Copies of all."""
        return {
            "count": torch.tensor(self._count),
            "mean": torch.from_numpy(self._mean.copy()),
            "squares": torch.from_numpy(self._squares.copy()),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from where `state` was taken."""
        self._count = int(state["count"])
        self._mean, self._squares = (state[n].numpy().copy() for n in ("mean", "squares"))


class Normalizer:
    """The statistics of agents in training, and when they are brought up to date.

    Args:
        scaling: Of the networks that act and learn.
        fixed: Nothing is counted after the first update, whose scaling stays.
    """

    def __init__(self, scaling: Scaling, *, fixed: bool) -> None:
        self._scaling, self._fixed = scaling, fixed
        self._statistics = Statistics(*scaling.mean.shape)
        self._seen: list[NDArray[Any]] = []  # [S, O] each

    def see(self, observations: NDArray[np.floating]) -> None:
        """Hear what the agents act on [S, O]."""
        self._seen.append(np.array(observations, np.float32))

    def update(self, *, updates: int) -> None:
        """Scale by all that was seen; before a round of updates, of which there were so many."""
        if self._seen and not (self._fixed and updates):
            self._statistics.add(np.stack(self._seen))
            self._statistics.write(self._scaling)
        self._seen.clear()

    def state(self) -> dict[str, Tensor]:
        """All that another one needs to go on; nothing waits to be counted."""
        return self._statistics.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from where `state` was taken, whose scaling the networks have."""
        self._statistics.load_state(state)
        self._seen.clear()
