"""A room with a locked door, as MiniGrid has them: fetch the key, then walk to the door.

What the agent sees is a dictionary of positions and choices; Trialfleet makes one vector of it.
`StepCost` is a wrapper with an argument of its own. studies/grid.toml uses both.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Dict, Discrete, MultiDiscrete

LEFT, RIGHT, FORWARD = range(3)
# Row and column of a step north, east, south, west.
_STEPS = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])

Seen = dict[str, Any]


class Grid(gymnasium.Env[Seen, Any]):
    """An episode begins anywhere, with the key anywhere else; the door is always in one corner.

    Args:
        size: Fields along a wall.
        render_mode: "rgb_array" makes pictures of it.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 6}  # noqa: RUF012 - Gymnasium's

    def __init__(self, size: int = 5, render_mode: str | None = None) -> None:
        self._size, self.render_mode = size, render_mode
        place = [size, size]
        self.observation_space = Dict(
            {
                "agent": MultiDiscrete(place),
                "direction": Discrete(4),
                "has_key": Discrete(2),
                "key": MultiDiscrete(place),
            }
        )
        self.action_space = Discrete(3)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Seen, dict[str, Any]]:
        """Place the agent and the key; neither lies at the door."""
        super().reset(seed=seed)
        fields = self._size**2 - 1
        agent, key = self.np_random.choice(fields, 2, replace=False)
        self._agent, self._key = (np.array(divmod(int(n), self._size)) for n in (agent, key))
        self._direction = int(self.np_random.integers(4))
        self._has_key = False
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Seen, float, bool, bool, dict[str, Any]]:
        """Turn, or walk; over the key, for half of the reward, and out by the door with it."""
        reward = 0.0
        if action == FORWARD:
            ahead = self._agent + _STEPS[self._direction]
            self._agent = np.clip(ahead, 0, self._size - 1)
        else:
            self._direction = (self._direction + (1 if action == RIGHT else -1)) % 4
        if not self._has_key and np.array_equal(self._agent, self._key):
            self._has_key, reward = True, 0.5
        out = self._has_key and bool((self._agent == self._size - 1).all())
        return self._seen(), reward + 0.5 * out, out, False, {}

    def render(self) -> Any:
        """The room from above: the agent and the field ahead of it, the key, the door."""
        fields = np.full((self._size, self._size, 3), 235, np.uint8)
        fields[-1, -1] = (90, 160, 90)
        ahead = self._agent + _STEPS[self._direction]
        if ((ahead >= 0) & (ahead < self._size)).all():
            fields[tuple(ahead)] = fields[tuple(ahead)] // 5 * 4
        if not self._has_key:
            fields[tuple(self._key)] = (230, 180, 40)
        fields[tuple(self._agent)] = (200, 60, 60) if self._has_key else (60, 90, 200)
        return fields.repeat(24, axis=0).repeat(24, axis=1)

    def _seen(self) -> Seen:
        return {
            "agent": self._agent,
            "direction": np.int64(self._direction),
            "has_key": np.int64(self._has_key),
            "key": self._key,
        }


class StepCost(gymnasium.Wrapper[Seen, Any, Seen, Any]):
    """Every step costs `cost`, so that shorter ways are worth more."""

    def __init__(self, env: gymnasium.Env[Seen, Any], cost: float) -> None:
        super().__init__(env)
        self._cost = cost

    def step(self, action: Any) -> tuple[Seen, float, bool, bool, dict[str, Any]]:
        """The environment's step, for less."""
        seen, reward, terminated, truncated, info = super().step(action)
        return seen, float(reward) - self._cost, terminated, truncated, info


gymnasium.register("Grid-v0", entry_point="studies.grid:Grid", max_episode_steps=60)
