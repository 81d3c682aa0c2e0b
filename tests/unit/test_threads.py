"""One thread, whatever the machine has."""

from __future__ import annotations

import subprocess
import sys


def test_no_library_computes_in_a_second_thread() -> None:
    program = (
        "import numpy, threadpoolctl, torch\n"
        "from worker.trainers.threads import use_one_thread\n"
        "use_one_thread()\n"
        "import scipy.linalg.cython_blas\n"
        "blas = [p for p in threadpoolctl.threadpool_info() if p['user_api'] == 'blas']\n"
        "assert len(blas) == 2, 'NumPy has one, and SciPy another'\n"
        "print(torch.get_num_threads(), {pool['num_threads'] for pool in blas})"
    )
    # A container of one core would hide the mistake.
    environment = {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "1 {1}"
