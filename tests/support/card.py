"""A device that is a CPU but must be treated as a GPU, for machines that have none.

Tensors on it are of their own device, "card". As on a GPU, an operation whose tensors lie on both
the card and the host is refused, and so is NumPy's way to their memory. What a GPU would do is done
on the CPU, so results are those of a CPU; how often the host had to wait for one is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "card"
_aten = torch.ops.aten


class CardTensor(torch.Tensor):
    """A tensor on the card, which is `there` in truth."""

    there: torch.Tensor

    @staticmethod
    def __new__(cls, there: torch.Tensor) -> CardTensor:
        made: CardTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            there.size(),
            strides=there.stride(),
            storage_offset=there.storage_offset(),
            dtype=there.dtype,
            device=NAME,
        )
        made.there = there
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"CardTensor({self.there!r})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise AssertionError(f"{func} outside of `card`")


@dataclass
class Card(TorchDispatchMode):
    """Does what is asked of the card, and counts."""

    launches: int = 0  # operations
    waits: int = 0  # times that the host waited for a result

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        cards = [x for x in tensors if isinstance(x, CardTensor)]
        to = kwargs.get("device")
        made_there = to is not None and torch.device(to).type == NAME
        if not cards and not made_there:
            return func(*args, **kwargs)
        moved = func is _aten._to_copy.default
        if func is _aten._local_scalar_dense.default or (moved and cards and to is not None and not made_there):
            self.waits += 1
        elif not moved and func is not _aten.copy_.default:
            self.launches += 1
            # A number on the host may take part, in a tensor without dimensions.
            host = [x for x in tensors if not isinstance(x, CardTensor) and x.dim() > 0]
            assert not (cards and host), f"{func}: tensors on two devices"
        if made_there:
            kwargs["device"] = "cpu"
        found = func(*tree_map(_there, args), **tree_map(_there, kwargs))
        if moved and to is not None and not made_there:
            return found
        # Operations in place give back what they have changed.
        known = {id(x.there): x for x in cards}
        return tree_map(
            lambda x: (known[id(x)] if id(x) in known else CardTensor(x)) if isinstance(x, torch.Tensor) else x, found
        )


def _there(x: object) -> object:
    return x.there if isinstance(x, CardTensor) else x


@contextmanager
def card() -> Iterator[Card]:
    """Inside, the device is there."""
    with Card() as mode:
        yield mode


_setup_privateuseone_for_python_backend(NAME)
