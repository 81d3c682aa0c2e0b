"""What is compiled, on other processors than this one, as far as this one can be told to be one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

# What tells this processor's libraries and Numba's compiler that it is an older one.
AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+sse4.2,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+popcnt,+movbe",
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4",
}
OLDEST = {"NUMBA_CPU_NAME": "generic"}

# The same of the C library, whose sines it chooses by itself.
OLD_SINES = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA"}
# And of NumPy, whose sines of float32 are in the starts of an Acrobot.
OLD_NUMPY = {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4"}

pytestmark = pytest.mark.timeout(600)  # all is compiled anew, the first time
x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the names are of x86_64")
avx2 = pytest.mark.skipif(
    not Path("/proc/cpuinfo").exists() or " avx2 " not in Path("/proc/cpuinfo").read_text(),
    reason="this processor can't be taken for one with AVX2",
)


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


def trained(told: dict[str, str], *args: str) -> dict[str, str]:
    lines = run("tests.unit.dqn.trained", *args, told=told).splitlines()
    return dict(line.split(": ") for line in lines)


@pytest.fixture(scope="module")
def here() -> dict[str, str]:
    """What trainings come to on this processor as it is."""
    return trained({})


def trainings(found: dict[str, str]) -> dict[str, str]:
    of_environments = {name: bits for name, bits in found.items() if "-v" in name}
    assert len(of_environments) == 9, "three environments, each with three networks"
    return of_environments


@pytest.mark.parametrize(
    "lanes", [8, *(pytest.param(each, marks=pytest.mark.slow) for each in (4, 16))]
)
def test_bits_do_not_depend_on_how_wide_vectors_are(here: dict[str, str], lanes: int) -> None:
    """On any processor: the compiler splits vectors that are too wide for it."""
    other = trained({}, "--lanes", str(lanes))
    assert other["lanes"] == str(lanes)
    assert trainings(other) == trainings(here)
    assert other["arithmetic"] == here["arithmetic"]


@x86
@avx2
def test_an_older_processor_trains_to_the_same_bits(here: dict[str, str]) -> None:
    """With fewer registers, and other products wherever BLAS is asked."""
    older = trained(AVX2)
    assert older["lanes"] == "8"
    assert trainings(older) == trainings(here)
    assert older["arithmetic"] == here["arithmetic"]


@x86
@avx2
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one")
def test_who_rounds_otherwise_says_so() -> None:
    """Whatever it is that has Numba's compiler or the C library do that."""
    told = [{}, OLDEST, OLD_SINES, {**OLDEST, **OLD_SINES}, OLD_NUMPY]
    program = "from worker.provenance import versions; print(versions()['arithmetic'])"
    found = [
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            env={**os.environ, **each},
            check=True,
        ).stdout
        for each in told
    ]
    assert [line.split(",")[0] for line in found] == [
        "fused sums",
        "separate sums",
        "fused sums",
        "separate sums",
        "fused sums",
    ]
    assert len(set(found)) == len(told)


@x86
@pytest.mark.slow
def test_the_oldest_processor_trains_to_other_bits(here: dict[str, str]) -> None:
    """Which is why it has to say so."""
    oldest = trained(OLDEST)
    assert trainings(oldest) != trainings(here)
    assert oldest["arithmetic"] != here["arithmetic"]


@x86
@pytest.mark.parametrize("told", [AVX2, OLDEST], ids=["AVX2", "oldest"])
def test_products_in_narrower_vectors(told: dict[str, str]) -> None:
    """The oldest round a product before it is added; all else is the same."""
    file = "tests/unit/dqn/test_products.py"
    run("pytest", file, "-p", "no:cacheprovider", "-k", "not before_it_is_rounded", told=told)
