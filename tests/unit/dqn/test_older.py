"""What is compiled, on other processors than this one, as far as this one can be told to be one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from worker.provenance import hardware

# What tells this processor's libraries and Numba's compiler that it is an older one.
AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+sse4.2,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+popcnt,+movbe",
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4",
}
OLDEST = {"NUMBA_CPU_NAME": "generic"}

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the names are of x86_64")


def run(module: str, *args: str, told: dict[str, str]) -> str:
    """What a module prints in a process that was told so."""
    inherited = {name: value for name, value in os.environ.items() if name not in AVX2}
    done = subprocess.run(
        [sys.executable, "-m", module, *args],
        capture_output=True,
        text=True,
        env={**inherited, **told},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def trained(told: dict[str, str]) -> dict[str, str]:
    lines = run("tests.unit.dqn.trained", told=told).splitlines()
    return dict(line.split(": ") for line in lines)


@pytest.mark.skipif("AVX512" not in hardware("cpu"), reason="it is an older one")
def test_an_older_processor_trains_to_the_same_bits() -> None:
    """With vectors half as wide, fewer registers, and other products wherever BLAS is asked."""
    here, older = trained({}), trained(AVX2)
    assert here.pop("hardware") != older.pop("hardware")
    assert (here.pop("lanes"), older.pop("lanes")) == ("16", "8")
    assert len(here) == 6, "three environments, each with small and with large networks"
    assert here == older


@pytest.mark.parametrize("told", [AVX2, OLDEST], ids=["AVX2", "oldest"])
def test_products_in_narrower_vectors(told: dict[str, str]) -> None:
    """The oldest round a product before it is added; all else is the same."""
    file = "tests/unit/dqn/test_products.py"
    run("pytest", file, "-p", "no:cacheprovider", "-k", "not before_it_is_rounded", told=told)
