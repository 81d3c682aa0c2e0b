"""A small environment that does what a test tells it to, while the worker that plays it runs."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

# A file named by this variable steers every step of the process's environments; without the file
# they are quick and harmless. It holds one of these words:
#   slow   each step takes a moment, so that a trial lasts as long as the test needs it to
#   block  the step does not return until the file is gone or says something else
#   nan    the reward is not a number
#   huge   the reward is finite, the loss is not
#   raise  the step raises, with text that nobody should print as it is
#   exit   the step ends the program, successfully
#   interrupt  the step raises what Ctrl-C raises
#
# A line is added to the file named by LIVES whenever an environment is made or closed.
STEER = "FAULTS_STEER"
LIVES = "FAULTS_LIVES"
SLOW = 0.015  # seconds

NASTY = "boom '; DROP TABLE trials; -- \0 [/red] <script>alert(1)</script> \u202e \ud800 \x1b[31m"


class Steered(gymnasium.Env[NDArray[np.float32], np.int64]):
    """Random observations, and a reward for the action that the first of them points to."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self) -> None:
        _note("made")

    def close(self) -> None:
        _note("closed")

    def _observe(self) -> NDArray[np.float32]:
        self._seen = self.np_random.uniform(-1.0, 1.0, 3).astype(np.float32)
        return self._seen

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return self._observe(), {}

    def step(
        self, action: np.int64
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        reward = float(self._seen[0]) * (2 * int(action) - 1)
        match _steer():
            case "nan":
                reward = float("nan")
            case "huge":
                reward = 1e38
            case "raise":
                raise RuntimeError(NASTY)
            case "exit":
                sys.exit(0)
            case "interrupt":
                raise KeyboardInterrupt
        return self._observe(), reward, False, False, {}


def _note(event: str) -> None:
    if LIVES in os.environ:
        with Path(os.environ[LIVES]).open("a", encoding="utf-8") as file:
            file.write(f"{event}\n")


def _steer() -> str:
    path = os.environ.get(STEER)
    if path is None:
        return ""
    word = _word(path)
    if word == "slow":
        time.sleep(SLOW)
    while word == "block":
        time.sleep(SLOW)
        word = _word(path)
    return word


def _word(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


gymnasium.register(id="Steered-v0", entry_point=f"{__name__}:Steered", max_episode_steps=8)
ENV = f"{__name__}:Steered-v0"
