"""What is recorded of a worker, as far as the bits of its results depend on it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from worker.provenance import arithmetic, hardware


def told(coretype: str) -> str:
    """What a process says that was told to multiply in this way."""
    program = "import numpy; from worker.provenance import hardware; print(hardware('cpu'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OPENBLAS_CORETYPE": coretype},
    )
    return done.stdout.strip()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the names are of x86_64")
def test_other_kernels_are_another_hardware() -> None:
    """Their products are rounded otherwise, so a checkpoint is not gone on with among them."""
    old, new = told("Nehalem"), told("Haswell")
    assert old.startswith("x86_64 ")
    assert old.endswith(" Nehalem")
    assert new.endswith(" Haswell")
    assert old.rsplit(" ", 1)[0] == new.rsplit(" ", 1)[0]


@pytest.mark.parametrize(
    ("processor", "wanted"),
    [
        ("x86_64 AuthenticAMD AVX512 SkylakeX", "x86_64 with fused sums"),
        ("x86_64 GenuineIntel AVX2 Haswell", "x86_64 with fused sums"),
        ("x86_64 AVX2", "x86_64 with fused sums"),
        ("x86_64 GenuineIntel DEFAULT Nehalem", "x86_64 without fused sums"),
        ("x86_64", "x86_64 without fused sums"),
        ("aarch64 DEFAULT neoversev1", "aarch64 with fused sums"),
        ("arm64 DEFAULT", "arm64 with fused sums"),
    ],
)
def test_what_a_portable_training_depends_on(processor: str, wanted: str) -> None:
    assert arithmetic(processor) == wanted


# What tells this processor's libraries and Numba's compiler that it is an older one.
OLDER = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+sse4.2,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+popcnt,+movbe",
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4",
}


def trained(told: dict[str, str]) -> dict[str, str]:
    """What `tests.support.trained` says in a process that was told so."""
    inherited = {name: value for name, value in os.environ.items() if name not in OLDER}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.trained"],
        capture_output=True,
        text=True,
        check=True,
        env={**inherited, **told},
    )
    return dict(line.split(": ") for line in done.stdout.splitlines())


@pytest.mark.skipif("AVX512" not in hardware("cpu"), reason="it is an older one")
def test_an_older_processor_trains_to_the_same_bits() -> None:
    """With vectors half as wide, fewer registers, and other products wherever BLAS is asked."""
    here, older = trained({}), trained(OLDER)
    assert here.pop("hardware") != older.pop("hardware")
    assert (here.pop("lanes"), older.pop("lanes")) == ("16", "8")
    assert len(here) == 6, "three environments, each with small and with large networks"
    assert here == older
