"""How many threads a worker computes with: one.

Networks this small only wait for a second thread, several workers share a machine, and the bits of
a product may depend on the number of threads.
"""

from __future__ import annotations

from importlib import import_module

import threadpoolctl


def use_one_thread() -> None:
    """Let PyTorch and NumPy's linear algebra compute in the calling thread only."""
    import torch  # here, because it takes seconds, and who only plays does without it

    # Some samplers compute with SciPy's; loaded later, that would not hear of the limit.
    import_module("scipy.linalg.cython_blas")

    torch.set_num_threads(1)
    use_one_blas_thread()


def use_one_blas_thread() -> None:
    """Let the linear algebra of NumPy, and of what else is loaded, do so."""
    threadpoolctl.threadpool_limits(1, user_api="blas")
