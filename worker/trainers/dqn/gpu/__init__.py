"""Training on a GPU: trials side by side as one tensor program, with environments as tensors.

No GPU has run this yet; tests run it on a CPU. Only `worker.trainers.dqn.backend` imports it: it
makes a `backend.GpuStepping`, which takes a lane of a `program`, where lanes ask a `scheduler` for
the work that is described in `requests`. `cuda_graphs` repeats that work, `tensor_envs` are the
environments.
"""
