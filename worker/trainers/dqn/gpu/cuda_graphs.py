"""Work on a GPU that is recorded once and then repeated as one launch.

A step of an environment, and an update, are some sixty small operations each. Launched one by one
from Python they take longer to launch than to compute, however many agents there are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch

Work = Callable[[], None]

# Recordings that are kept; those of trials that have ended make room for others.
_MOST = 16


def _on_cuda() -> Callable[[Work], Work]:
    """A recorder of CUDA graphs: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.

    They share the memory for what they compute on the way. That is sound because none of them runs
    beside another one, and none leaves anything there.
    """
    pool = torch.cuda.graph_pool_handle()

    def record(work: Work) -> Work:
        one = torch.ones(1, 1, 1, device="cuda")
        torch.bmm(one, one)  # sets up what this thread multiplies with
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on with other work meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            work()
        return graph.replay

    return record


# Makes a recorder, by the kind of device; elsewhere work is done as it stands.
RECORDERS: dict[str, Callable[[], Callable[[Work], Work]]] = {"cuda": _on_cuda}


class Graphs:
    """Recordings by name.

    What is recorded reads and writes tensors that stay where they are, waits for nothing, has no
    other effect, and has been done once before, as the first time may set something up.

    Args:
        device: Where the work is.
    """

    def __init__(self, device: str) -> None:
        make = RECORDERS.get(torch.device(device).type)
        self._record = make() if make is not None else None
        self._recorded: dict[Hashable, Work] = {}

    def run(self, name: Hashable, work: Work) -> None:
        """Do the work, which is the same whenever it has this name."""
        if self._record is None:
            work()
            return
        if name not in self._recorded:
            while len(self._recorded) >= _MOST:
                del self._recorded[next(iter(self._recorded))]
            self._recorded[name] = self._record(work)
        self._recorded[name]()
