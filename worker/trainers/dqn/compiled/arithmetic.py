"""What the machine code's roundings are here, found out by computing.

Everything is written out, in its order; two things are left to where it runs. A sum and a product
are rounded once where the target of Numba's compiler can, which is not always this processor:
`NUMBA_CPU_NAME` and `NUMBA_CPU_FEATURES` choose it. And sines come from the C library, from NumPy,
or from Intel's library where Numba finds it, each of which picks one of its versions by the
processor or as it is told. Asking them would mean knowing all of these ways; a result shows what
was done.
"""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np

from worker.trainers.dqn.builtin_envs import WORLDS
from worker.trainers.dqn.compiled.environments import ACROBOT, NUMBERS, TWO, step
from worker.trainers.dqn.compiled.products import dots

# (1 + 2^-12)² is 1 + 2^-11 + 2^-24, whose last part is lost where the product is rounded first.
_NEAR_ONE, _SQUARE_ROUNDED = 1 + 2**-12, 1 + 2**-11
# Of 1,500 sines of one version of glibc's, one differs from the other version's.
_STATES = 4_000


@cache
def describe() -> str:
    """How sums and sines come out, such as "fused sums, sines 0123abcd": equal means equal bits."""
    return f"{'fused' if _fuses() else 'separate'} sums, sines {_sines()}"


def _fuses() -> bool:
    """Whether a product is added before it is rounded."""
    a, b = np.zeros((2, 1, 32), np.float32)
    a[0, 0], b[0, 0] = -1, _SQUARE_ROUNDED
    a[0, 16] = b[0, 16] = _NEAR_ONE  # the same lane's next
    out = np.empty((1, 1), np.float32)
    dots(a, b, out)
    return bool(out[0, 0] != 0)


def _sines() -> str:
    """A digest of where the environments' episodes begin, and where their steps lead."""
    rng, found = np.random.default_rng(0), hashlib.sha256()
    for world in WORLDS.values():
        number = NUMBERS[world.name]
        found.update(world.starts(rng, _STATES)[1].tobytes())
        states = rng.uniform(-3.0, 3.0, (_STATES // (4 if number == ACROBOT else 1), 4))
        for state in states:
            step(number, state, 1, TWO)
        found.update(states.tobytes())
    return found.hexdigest()[:8]
