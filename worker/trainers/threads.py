"""How many threads a worker computes with: one.

Networks this small only wait for a second thread, several workers share a machine, and the bits of
a product may depend on the number of threads.
"""

from __future__ import annotations

import threadpoolctl
import torch


def use_one_thread() -> None:
    """Let PyTorch and NumPy's linear algebra compute in the calling thread only."""
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1, user_api="blas")
