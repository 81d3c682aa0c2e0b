"""What is recorded of a worker, as far as the bits of its results depend on it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from worker.provenance import Provenance, versions


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


@pytest.mark.parametrize("portable", [True, False])
def test_how_machine_code_rounds_is_part_of_every_build(portable: bool) -> None:
    """Numba compiles for what its variables say, and not for what this processor can."""
    fused, separate = (
        Provenance(
            worker="a",
            host="b",
            device="cpu",
            hardware="x86_64 AuthenticAMD AVX512 SkylakeX",
            versions={"numba": "0.1", "arithmetic": f"{sums} sums, sines 0"},
        ).build(portable=portable)
        for sums in ("fused", "separate")
    )
    assert fused != separate
    assert fused["hardware"] == ("x86_64" if portable else "x86_64 AuthenticAMD AVX512 SkylakeX")


def test_where_nothing_is_compiled_nothing_is_said_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "arithmetic" in versions()
    assert "arithmetic" not in versions(compiled=False)
    # Whoever debugs code of their own, which Numba compiles, may have said so.
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    assert versions()["numba"] == "none"
