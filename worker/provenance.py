"""Who trained a trial, with what: everything that the bits of its result depend on."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import threadpoolctl

from trialfleet import COMPATIBILITY
from trialfleet.errors import UsageError
from worker.trainers.protocol import How
from worker.trainers.registry import compiled_arithmetic

# What besides the device decides how a number is rounded.
_DECIDE_BITS = ("torch", "numpy", "numba", "arithmetic", "libc", "compatibility")
# The version of what is not used.
NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """One worker, as it stands in the trials that it took part in."""

    worker: str
    host: str
    device: str  # "cpu" or "cuda"
    hardware: str  # the GPU's name, or the kind of processor: see `hardware`
    versions: Mapping[str, str]
    lanes: int = 1  # trials that it trains at once

    def build(self, *, portable: bool) -> dict[str, str]:
        """What has to be equal for two workers to give the same bits.

        Args:
            portable: See `worker.trainers.protocol.Trainer`.
        """
        return {
            "device": self.device,
            "hardware": machine(self.hardware) if portable else self.hardware,
            **{name: self.versions.get(name, NONE) for name in _DECIDE_BITS},
            # A GPU takes other ways to the products of a larger stack.
            **({"lanes": str(self.lanes)} if self.device != "cpu" else {}),
        }

    @property
    def how(self) -> How:
        """What a job has to say of it."""
        compiled = self.versions.get("numba", NONE) != NONE
        return How(device=self.device, compiled=compiled, lanes=self.lanes)


def versions(*, compiled: bool = True) -> dict[str, str]:
    """What a result may depend on: everything whose arithmetic is in it.

    Args:
        compiled: Whether to train with what Numba compiles, where it is installed.
    """
    packages = ("trialfleet", "torch", "numpy", "optuna", "gymnasium")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        **(_machine_code() if compiled else {"numba": NONE}),
        # Its sines and cosines are in the steps of environments.
        "libc": " ".join(filter(None, platform.libc_ver())) or platform.platform(terse=True),
        "compatibility": str(COMPATIBILITY),
    }


def _machine_code() -> dict[str, str]:
    """Numba's version, and how what it compiles rounds; it compiles for what its variables say."""
    try:
        installed = version("numba")
    except PackageNotFoundError:
        return {"numba": NONE}
    import numba

    config: Any = numba.config
    if config.DISABLE_JIT:  # by NUMBA_DISABLE_JIT, of whoever debugs code of their own
        return {"numba": NONE}
    return {"numba": installed, "arithmetic": compiled_arithmetic()}


def find_device(wanted: str) -> str:
    """The device to train on.

    Args:
        wanted: "cpu", "cuda", or "auto": the GPU if there is one.

    Raises:
        UsageError: There is no GPU here that PyTorch can use.
    """
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device here that PyTorch can use")
    return wanted


def hardware(device: str) -> str:
    """What computes on a device: a GPU by its name, a processor by what decides its roundings.

    Libraries take other ways to a product on another maker's processor, and with other instructions
    at hand; `OPENBLAS_CORETYPE` has OpenBLAS take the way that it names.
    """
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    libraries = threadpoolctl.threadpool_info()
    kernels = {each["architecture"] for each in libraries if "architecture" in each}
    instructions = torch.backends.cpu.get_cpu_capability()
    return " ".join([platform.machine(), *_maker(), instructions, *sorted(kernels)])


def machine(hardware: str) -> str:
    """What a portable training depends on of a processor's `hardware`: its kind.

    Every operation of it is written out, in its order. The rest is in `versions`, as "arithmetic".
    """
    return hardware.split()[0]


def _maker() -> list[str]:
    """The processor's, where Linux says it."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return re.findall(r"^vendor_id\s*:\s*(\S+)$", told, re.MULTILINE)[:1]
