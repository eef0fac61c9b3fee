"""ncjax: the geometry of trained classifiers, from a toy landscape to a network on a pod.

Importing the package imports no submodule: `from ncjax import losses, metrics, ufm` takes what is
used, and nothing here changes a global setting of JAX.
"""

__version__ = "0.1.0"
