"""What trains as machine code, made by Numba: each agent's updates, and all of
CartPole, Acrobot and MountainCar.

It does what `worker.trainers.dqn.agent` and `worker.trainers.dqn.stepping` do, with other
roundings, several times as fast for small networks. Where Numba is not installed, those do.

Importing it compiles nothing yet. Machine code is kept in a folder that is named by the sources,
in `NUMBA_CACHE_DIR` or the user's caches: Numba itself would go on with what it has made of a
function whose callees have changed.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba

from worker.trainers.dqn.compiled import vectors  # has nothing to compile


def _cache_folder() -> Path:
    """Where machine code is kept, for this process or longer."""
    wanted = _wanted_folder()
    if wanted is not None:
        with suppress(OSError):
            wanted.mkdir(parents=True, exist_ok=True)
        if os.access(wanted, os.W_OK):
            return wanted
    # A folder of our own: whoever can write to it decides what this process runs.
    folder = Path(tempfile.mkdtemp(prefix="trialfleet-"))
    atexit.register(_remove, folder, os.getpid())
    if wanted is not None and wanted.is_dir():  # an image brings it along, and may not write to it
        shutil.copytree(wanted, folder, dirs_exist_ok=True)
    return folder


def _wanted_folder() -> Path | None:
    """The one for this code; None where there is no place for any."""
    parent = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(parent).expanduser() / "trialfleet" / _digest()
    except RuntimeError:  # a user whom the system does not know, and no HOME
        return None


def _digest() -> str:
    """Of what decides how functions are compiled, as far as Numba does not look at it."""
    config: Any = numba.config
    decides = (vectors.LANES, vectors.REGISTERS, config.OPT, config.USING_SVML)
    found = hashlib.sha256(f"{decides}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        found.update(source.read_bytes())
    return found.hexdigest()[:16]


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # and not a process that was forked
        shutil.rmtree(folder, ignore_errors=True)


# Only while these are imported: a user's own code may use Numba as well.
_config: Any = numba.config
_before = _config.CACHE_DIR
_config.CACHE_DIR = str(_cache_folder())
try:
    from worker.trainers.dqn.compiled.acting import Acting
    from worker.trainers.dqn.compiled.course import InWorld
    from worker.trainers.dqn.compiled.learners import Learners
finally:
    _config.CACHE_DIR = _before

__all__ = ["Acting", "InWorld", "Learners"]
