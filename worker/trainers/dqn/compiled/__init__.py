"""What trains as machine code, made by Numba: each agent's updates, and all of
CartPole, Acrobot and MountainCar.

It does what `worker.trainers.dqn.agent` and `worker.trainers.dqn.stepping` do, with other
roundings, several times as fast for small networks. Where Numba is not installed, those do.

Importing it compiles nothing yet. Machine code is kept in a folder that is named by the sources:
Numba itself would go on with what it has made of a function whose callees have changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numba


def _cache_folder() -> Path:
    """Where machine code is kept, for this process or longer."""
    given = os.environ.get("NUMBA_CACHE_DIR", "")
    if given and os.access(given, os.W_OK):
        return Path(given)
    here = Path(__file__).parent
    sources = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(here.glob("*.py"))))
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(caches).expanduser() / "trialfleet" / sources.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        # A folder of our own: whoever can write to it decides what this process runs.
        folder = Path(tempfile.mkdtemp(prefix="trialfleet-"))
    if given and Path(given).is_dir():  # an image brings it along, and may not write to it
        shutil.copytree(given, folder, dirs_exist_ok=True)
    return folder


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
