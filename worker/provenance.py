"""Who trained a trial, with what: everything that the bits of its result depend on."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from trialfleet import COMPATIBILITY
from trialfleet.errors import UsageError
from worker.trainers.protocol import How

# What besides the device decides how a number is rounded.
_DECIDE_BITS = ("torch", "numpy", "numba", "compatibility")
# The version of what is not used.
NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """One worker, as it stands in the trials that it took part in."""

    worker: str
    host: str
    device: str  # "cpu" or "cuda"
    hardware: str  # the GPU's name, or the kind of processor
    versions: Mapping[str, str]
    lanes: int = 1  # trials that it trains at once

    @property
    def build(self) -> dict[str, str]:
        """What has to be equal for two workers to give the same bits."""
        return {
            "device": self.device,
            "hardware": self.hardware,
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
        "numba": _numba_version() if compiled else NONE,
        "compatibility": str(COMPATIBILITY),
    }


def _numba_version() -> str:
    try:
        return version("numba")
    except PackageNotFoundError:
        return NONE


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
    """The name of what computes on a device."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else platform.machine()
