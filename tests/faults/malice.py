"""Bytes that run a command in whoever unpickles them, in the dresses in which they may come."""

from __future__ import annotations

import io
import json
import os
import pickle
from pathlib import Path

import torch


class _Command:
    """Pickles as a call of os.mkdir."""

    def __init__(self, marker: Path) -> None:
        self._marker = str(marker)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self._marker,)


def malicious(marker: Path, *, digest: str = "") -> dict[str, bytes]:
    """By name: bytes that make the folder `marker` once something unpickles them.

    Args:
        marker: Not there yet.
        digest: Of the study that a checkpoint among them would be of.
    """
    plain = pickle.dumps(_Command(marker))
    zipped, legacy = io.BytesIO(), io.BytesIO()
    torch.save({"agent.online": _Command(marker)}, zipped)
    torch.save({"agent.online": _Command(marker)}, legacy, _use_new_zipfile_serialization=False)
    return {
        "a pickle": plain,
        "torch.save's archive": zipped.getvalue(),
        "torch.save's older form": legacy.getvalue(),
        # All that a reader of safetensors looks at, and a pickle where an array should be.
        "safetensors around a pickle": _safetensors(
            {"agent.online": ("U8", plain)}, {"digest": digest, "pickle": plain.hex()}
        ),
        "safetensors with a type of its own": _safetensors(
            {"agent.online": ("OBJECT", plain)}, {"digest": digest}
        ),
        "a list for a header": (2).to_bytes(8, "little") + b"[]" + plain,
    }


def _safetensors(arrays: dict[str, tuple[str, bytes]], metadata: dict[str, str]) -> bytes:
    header: dict[str, object] = {"__metadata__": metadata}
    body = b""
    for name, (kind, data) in arrays.items():
        end = len(body) + len(data)
        header[name] = {"dtype": kind, "shape": [len(data)], "data_offsets": [len(body), end]}
        body += data
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body
