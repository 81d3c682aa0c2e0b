"""Models of one's own as arrays, and back: each is a file's content, which nobody here reads.

The array's name is "model" and the file's suffix; its rows are as long as the longest model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NAME, _SIZE = "model", "size"


def as_arrays(models: Sequence[bytes], suffix: str) -> dict[str, NDArray[Any]]:
    """The models [S, L] and their sizes [S]; nothing where there are none."""
    if not models:
        return {}
    rows = np.zeros((len(models), max(map(len, models))), np.uint8)
    for row, model in zip(rows, models, strict=True):
        row[: len(model)] = np.frombuffer(model, np.uint8)
    return {_NAME + suffix: rows, _SIZE: np.array([len(model) for model in models], np.int64)}


def of_arrays(arrays: Mapping[str, NDArray[Any]]) -> tuple[bytes, str] | None:
    """One model out of them, and its file's suffix; None where the training kept none.

    Raises:
        ValueError: They are not those of one model.
    """
    if not arrays:
        return None
    names = [name for name in arrays if name.startswith(_NAME + ".")]
    if set(arrays) != {*names, _SIZE} or len(names) != 1 or arrays[names[0]].ndim != 1:
        raise ValueError(f"not the arrays of a model: {', '.join(sorted(arrays))}")
    size = int(arrays[_SIZE].item())
    return arrays[names[0]][:size].tobytes(), names[0].removeprefix(_NAME)
