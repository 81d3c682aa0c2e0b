"""A device that is a CPU but must be treated as a GPU, for machines that have none.

Tensors on it are of their own device, "card". As on a GPU, an operation whose tensors lie on both
the card and the host is refused, and so is NumPy's way to their memory. What a GPU would do is done
on the CPU, so results are those of a CPU; how often the host had to wait for one is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
        made: CardTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            there.size(),
            strides=there.stride(),
            storage_offset=there.storage_offset(),
            dtype=there.dtype,
            device=torch.device(NAME),
        )
        made.there = there
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"CardTensor({self.there!r})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise AssertionError(f"{func} outside of `card`")


@dataclass
class _Operation:
    """One that is recorded: what it was called with, and what it gave."""

    func: Any
    args: Any
    kwargs: Any
    given: Any

    def repeat(self) -> None:
        again = self.func(*tree_map(_there, self.args), **tree_map(_there, self.kwargs))
        returns = self.func._schema.returns
        if any(each.alias_info is not None for each in returns):
            return  # it has changed its arguments, or looks at their memory
        for before, now in zip(tree_flatten(self.given)[0], tree_flatten(again)[0], strict=True):
            if isinstance(before, CardTensor):
                before.there.copy_(now)


class Card(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Does what is asked of the card, and counts.

    Attributes:
        launches: Operations.
        waits: Times that the host waited for a result.
        replays: Recordings that were repeated.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launches = self.waits = self.replays = 0
        self._recording: list[_Operation] | None = None

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """As a CUDA graph: operations are noted and not done, and repeated on the same memory."""
        recorded: list[_Operation] = []
        self._recording = recorded
        try:
            work()
        finally:
            self._recording = None

        def replay() -> None:
            self.replays += 1
            for operation in recorded:
                operation.repeat()

        return replay

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        cards = [x for x in tensors if isinstance(x, CardTensor)]
        to = kwargs.get("device")
        made_there = to is not None and torch.device(to).type == NAME
        if not cards and not made_there:
            return func(*args, **kwargs)
        # A number on the host may take part, in a tensor without dimensions.
        host = [x for x in tensors if not isinstance(x, CardTensor) and x.dim() > 0]
        moved = func is _aten._to_copy.default
        to_host = moved and to is not None and not made_there
        waits = to_host or func is _aten._local_scalar_dense.default
        if self._recording is not None:
            assert not waits, f"{func}: a recording that waits for a result"
            assert not host, f"{func}: a recording that reads the host's memory"
        self.waits += waits
        if not waits and not moved and func is not _aten.copy_.default:
            self.launches += 1
            assert not (cards and host), f"{func}: tensors on two devices"
        if made_there:
            kwargs["device"] = "cpu"
        if self._recording is not None and func._schema.is_mutable:
            self._recording.append(_Operation(func, args, kwargs, None))
            return kwargs.get("out", args[0]) if func._schema.returns else None
        found = func(*tree_map(_there, args), **tree_map(_there, kwargs))
        if to_host:
            return found
        # Operations in place give back what they have changed.
        known = {id(x.there): x for x in cards}

        def wrapped(x: object) -> object:
            if not isinstance(x, torch.Tensor):
                return x
            return known[id(x)] if id(x) in known else CardTensor(x)

        given = tree_map(wrapped, found)
        if self._recording is not None:
            self._recording.append(_Operation(func, args, kwargs, given))
        return given


def _there(x: object) -> object:
    return x.there if isinstance(x, CardTensor) else x


@contextmanager
def inserted() -> Iterator[Card]:
    """Inside, the device is there."""
    with Card() as mode:
        yield mode


_setup_privateuseone_for_python_backend(NAME)
