"""What is recorded of a worker, as far as the bits of its results depend on it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from worker.provenance import arithmetic


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
