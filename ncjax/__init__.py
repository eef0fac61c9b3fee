"""ncjax: the geometry of trained classifiers, from a toy landscape to a network on a pod.

Importing the package imports no submodule: `from ncjax import losses, metrics, ufm` takes what is
used. It changes no setting of JAX, but for two that have to be there before JAX starts its CPU
device, as environment variables that are left alone if they are set: NPROC, on machines of few
cores, and OPENBLAS_NUM_THREADS.
"""

import os

__version__ = "0.1.0"

# XLA runs batched LAPACK calls on the very threads that wait for them, as many as cores. On two
# cores two such calls (of one compiled function) can wait for each other for ever.
_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
if _cores < 16:
    os.environ.setdefault("NPROC", "16")
# Each of these calls would start threads of OpenBLAS besides: on two cores, batches of matrices of
# size 66 took 300 times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
