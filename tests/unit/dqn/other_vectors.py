"""Have the compiled code take vectors for wider or narrower than they are in this processor.

Its bits don't depend on that: the compiler makes do with the registers that there are.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_NAME = "worker.trainers.dqn.compiled.vectors"


def use(lanes: int) -> None:
    """So many floats in a vector, as in SSE (4), AVX2 (8) or AVX-512 (16).

    Call it before anything that is compiled is imported: what is written depends on it.
    """
    assert _NAME not in sys.modules
    # Its package can't be imported first, as that imports whatever this is for.
    import worker

    path = Path(worker.__path__[0]).joinpath(*_NAME.split(".")[1:]).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(_NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__dict__.update(LANES=lanes, REGISTERS=32 if lanes == 16 else 16)
    sys.modules[_NAME] = module
