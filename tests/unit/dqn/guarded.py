"""Train with every array of the compiled code between unreadable pages.

`python -m tests.unit.dqn.guarded NAME …` ends by a signal if a kernel reads or writes beside an
array that it is given, be it a byte.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import itertools
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from tests.unit.dqn import other_vectors

F32 = NDArray[np.float32]

_PAGE = mmap.PAGESIZE
_NOBODY = 0  # PROT_NONE, which mmap has no name for
_libc = ctypes.CDLL(None, use_errno=True)

# Shapes that are no multiple of anything, and the smallest that there are.
WIDTHS = [(1,), (17,), (5, 1), (1, 7), (16, 31, 17), (17, 17), (33, 16)]
BATCHES = range(1, 8)
CHANGES: list[dict[str, Any]] = [
    {"double_q": True, "loss": "huber", "buffer_size": 1},
    {"double_q": False, "loss": "mse", "buffer_size": 7, "tau": 0.5},
]


class Guarded:
    """A copy of an array with an unreadable page before it and one behind it.

    Attributes:
        array: The copy. It touches the page behind it, or the one before it if `first`.
    """

    def __init__(self, array: NDArray[Any], *, first: bool) -> None:
        size = -(-max(array.nbytes, 1) // _PAGE) * _PAGE
        self._memory = mmap.mmap(-1, size + 2 * _PAGE)
        begin = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for page in (begin, begin + _PAGE + size):
            if _libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(_PAGE), _NOBODY):
                raise OSError(ctypes.get_errno(), "mprotect")
        offset = _PAGE + (0 if first else size - array.nbytes)
        whole = np.frombuffer(self._memory, np.uint8)[offset : offset + array.nbytes]
        self.array = whole.view(array.dtype).reshape(array.shape)
        self.array[...] = array
        self._original = array

    def give_back(self) -> None:
        """Write what has become of the copy to the array that it was made of."""
        self._original[...] = self.array


def guarded(kernel: Callable[..., Any], *, first: bool) -> Callable[..., Any]:
    """The kernel, given copies that are guarded instead of the arrays it is called with."""

    def call(*args: Any) -> Any:
        copies: list[Guarded] = []

        def copy(value: Any) -> Any:
            if isinstance(value, tuple):  # a named one
                return type(value)(*map(copy, value))
            if not isinstance(value, np.ndarray):
                return value
            copies.append(Guarded(value, first=first))
            return copies[-1].array

        result = kernel(*map(copy, args))
        for each in copies:
            each.give_back()
        return result

    return call


class Smallest(gymnasium.Env[Any, Any]):
    """One number to see, and one action."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(1)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[F32, dict[str, Any]]:
        super().reset(seed=seed)
        self._left = 5
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> tuple[F32, float, bool, bool, dict[str, Any]]:
        self._left -= 1
        return np.full(1, self._left / 5, np.float32), 1.0, not self._left, False, {}


class Odd(Smallest):
    """Three numbers to see, and five actions."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space = spaces.Discrete(5)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[F32, dict[str, Any]]:
        return super().reset(seed=seed)[0].repeat(3), {}

    def step(self, action: Any) -> tuple[F32, float, bool, bool, dict[str, Any]]:
        seen, reward, terminated, truncated, info = super().step(action)
        return seen.repeat(3), reward, terminated, truncated, info


@contextmanager
def guards(*, first: bool) -> Iterator[dict[str, int]]:
    """All that Python calls of the compiled code is guarded; how often each was called."""
    from worker.trainers.dqn.compiled import acting, learners, segments

    calls: dict[str, int] = {}
    entries = [
        (segments, "train"),
        (segments, "play"),
        (learners, "learn_many"),
        (acting, "_write_values"),
    ]
    originals = [getattr(module, name) for module, name in entries]

    def counted(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        inner = guarded(kernel, first=first)

        def call(*args: Any) -> Any:
            calls[name] = calls.get(name, 0) + 1
            return inner(*args)

        return call

    for (module, name), original in zip(entries, originals, strict=True):
        setattr(module, name, counted(name, original))
    try:
        yield calls
    finally:
        for (module, name), original in zip(entries, originals, strict=True):
            setattr(module, name, original)


def train(*, first: bool) -> None:
    """Whole trainings, in every environment."""
    from worker.trainers.dqn.trainer import Training
    from worker.trainers.protocol import Job

    for name in ("Smallest", "Odd"):
        gymnasium.register(f"{name}-v0", f"{__spec__.name}:{name}", max_episode_steps=9)
    environments = ("CartPole-v1", "Acrobot-v1", "MountainCar-v0", "Smallest-v0", "Odd-v0")
    with guards(first=first) as calls:
        for env, net_arch, (batch_size, changes) in itertools.product(
            environments, WIDTHS, zip(BATCHES, itertools.cycle(CHANGES))
        ):
            print(env, net_arch, batch_size, changes, flush=True)
            job = Job(
                env=env,
                knobs={
                    "learning_starts": 1,
                    "train_freq": 3,
                    "target_update_interval": 5,
                    "net_arch": net_arch,
                    "batch_size": batch_size,
                    **changes,
                },
                seeds=[1, 2],
                train_steps=14,
                eval_every=7,
                eval_episodes=2,
                score_episodes=1,
                compiled=True,
            )
            training = Training(job)
            for _ in training.run():
                pass
            training.close()
    assert calls.keys() == {"train", "play", "learn_many", "_write_values"}


def multiply(*, first: bool) -> None:
    """Every product, in every small shape and some larger ones."""
    from worker.trainers.dqn.compiled import products

    small = itertools.product(range(1, 8), repeat=3)
    for m, k, n in [*small, (6, 16, 64), (7, 15, 65), (9, 17, 31), (13, 33, 63), (33, 19, 81)]:
        print(m, k, n, flush=True)
        a, b, out = (np.ones(shape, np.float32) for shape in ((m, k), (k, n), (m, n)))
        for kernel, args in (
            (products.multiply, (a, b, out)),
            (products.multiply_where, (a, b, out.copy(), out)),
            (products.layer, (a, b, a[:, 0].copy(), out, True)),
            (products.dots, (a, b.T.copy(), out)),
            (products.neurons, (np.ones(m * k + m, np.float32), b[:, 0].copy(), out[:, 0], True)),
        ):
            guarded(kernel, first=first)(*args)


def main() -> None:
    """Do what is named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["train", "multiply"])
    parser.add_argument("--first", action="store_true", help="arrays begin a page, or end one")
    parser.add_argument("--lanes", type=int)
    given = parser.parse_args()
    faulthandler.enable()
    if given.lanes is not None:
        other_vectors.use(given.lanes)
    {"train": train, "multiply": multiply}[given.what](first=given.first)


if __name__ == "__main__":
    main()
