"""Pictures of a saved agent at play, small enough to be passed around."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray
from PIL.Image import Image

from trialfleet.errors import FleetError, UsageError
from trialfleet.escape import printable
from worker.play import overlay
from worker.trainers.environment import Environment, EnvLike, as_environment, make_one
from worker.trainers.protocol import SavedAgent

# More frames than this take memory, and nobody's patience. A film that has them loses every second
# one, and so plays twice as fast.
MOST_FRAMES = 600
_USUAL_FPS = 30  # of an environment that does not say how fast it is


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One picture of a film."""

    image: Image
    last: bool  # of its episode


@dataclass(frozen=True, kw_only=True)
class Film:
    """Episodes, one after the other."""

    frames: list[Frame]
    seconds: float  # that a frame is shown
    returns: list[float]  # of each episode
    lengths: list[int]  # of each episode, in environment steps


def shoot(
    agent: SavedAgent, environment: EnvLike, seeds: Sequence[int], *, fps: int, width: int
) -> Film:
    """Play greedy episodes, one for each seed, and keep what is to be seen of them.

    Args:
        agent: Who plays.
        environment: Which one.
        seeds: Of the episodes' starts.
        fps: The most frames in a second.
        width: The most pixels from left to right.

    Raises:
        UsageError: The environment cannot be shown.
        StudyFileError: There is no such environment here.
    """
    environment = as_environment(environment)
    env_id = environment.id
    env = _open(environment)
    try:
        with _told(env_id):
            return _shoot(env, env_id, agent, seeds, fps=fps, width=width)
    finally:
        env.close()


def _shoot(
    env: gymnasium.Env[Any, Any],
    env_id: str,
    agent: SavedAgent,
    seeds: Sequence[int],
    *,
    fps: int,
    width: int,
) -> Film:
    per_second = env.metadata.get("render_fps") or _USUAL_FPS
    stride = max(1, round(per_second / fps))
    film = Film(frames=[], seconds=stride / per_second, returns=[], lengths=[])
    for number, seed in enumerate(seeds, 1):
        observation, _ = env.reset(seed=seed)
        step, total, ended = 0, 0.0, False
        while True:
            if step % stride == 0 or ended:
                told = overlay.Told(
                    title=printable(env_id),
                    episode=number,
                    episodes=len(seeds),
                    step=step,
                    total=total,
                    ended=ended,
                )
                image = overlay.draw(_picture(env, env_id), told, width=width)
                film.frames.append(Frame(image=image, last=ended))
                if len(film.frames) > MOST_FRAMES:
                    film.frames[:] = _thinned(film.frames)
                    stride *= 2
            if ended:
                break
            action = agent.act(np.asarray(observation)[None])[0]
            observation, reward, terminated, truncated, _ = env.step(int(action))
            step, total, ended = step + 1, total + float(reward), bool(terminated or truncated)
        film.returns.append(total)
        film.lengths.append(step)
    return film


def _thinned(frames: list[Frame]) -> list[Frame]:
    """Every second one, and the last of each episode."""
    return [frame for place, frame in enumerate(frames) if place % 2 == 0 or frame.last]


def _open(environment: Environment) -> gymnasium.Env[Any, Any]:
    with _told(environment.id):
        return make_one(environment, render_mode="rgb_array")


def _picture(env: gymnasium.Env[Any, Any], env_id: str) -> NDArray[np.uint8]:
    picture = np.asarray(env.render())
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        found = "nothing" if picture.dtype == object else f"{picture.dtype} {picture.shape}"
        raise UsageError(f"{env_id} cannot be shown: as 'rgb_array' it renders {found}")
    return picture


@contextmanager
def _told(env_id: str) -> Iterator[None]:
    """Inside runs other people's code, which raises what it likes."""
    try:
        yield
    except FleetError:
        raise
    except (Exception, SystemExit) as exc:
        reason = f"{type(exc).__name__}: {exc}"
        if isinstance(exc, DependencyNotInstalled):
            # Gymnasium's own environments draw with pygame, and name an extra of Gymnasium's.
            ours = 'pygame is not installed: pip install "trialfleet[play]"'
            reason = ours if "pygame" in str(exc) else f"{exc}"
        if isinstance(exc, TypeError) and "render_mode" in str(exc):
            reason = "it has no pictures (it is made without a render_mode)"
        raise UsageError(f"{env_id} cannot be shown: {reason}") from exc
