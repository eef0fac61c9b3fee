"""ncjax: the geometry of trained classifiers, from a toy landscape to a network on a pod.

Importing the package imports no submodule: `from ncjax import losses, metrics, ufm` takes what is
used. It changes no setting of JAX, but for one that has to be there before JAX starts its devices:
on machines of few cores the number of XLA's CPU threads (the variable NPROC, unless it is set).
"""

import os

__version__ = "0.1.0"

# XLA runs batched LAPACK calls on the very threads that wait for them, as many as cores. On two
# cores two such calls (of one compiled function) can wait for each other for ever.
if (os.cpu_count() or 1) < 16:
    os.environ.setdefault("NPROC", "16")
