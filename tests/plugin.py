"""What holds for every test and doctest: strict promotion, checked annotations, one cache.

Strict means here: no implicit promotion of types, no broadcasting across ranks. Annotations are
checked by beartype, with int accepted where float is asked for. Constructors are left alone: JAX
rebuilds result pytrees with whatever it maps over them (shapes, shardings, NumPy arrays), which is
not what their fields promise to a user.
"""

import gc
import importlib
import os
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Compiling is most of what the tests wait for, and small shapes gain nothing from optimised code:
# the older emitters of fusions, a thread a program, compile in a quarter of the processor time.
# Set before JAX starts, and inherited by the processes that tests start.
QUICK = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
if version("jaxlib").startswith("0.10."):  # later ones have no other emitters, and stop at the flag
    QUICK.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([*QUICK, os.environ.get("XLA_FLAGS", "")])
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(ROOT / ".jax_cache")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
from beartype import BeartypeConf, beartype

# Imported on the way to a module of ncjax, they would be compiled from their sources: the hook that
# adds checks keeps bytecode of its own, of whatever is imported under it.
for library in ("matplotlib.figure", "optax", "orbax.checkpoint", "pandas", "sklearn.cluster"):
    importlib.import_module(library)

# Tracing makes many objects that live on, and looking through them again and again is a sixth of
# its time; every module ends with a full collection.
gc.freeze()
gc.set_threshold(20_000)

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function):
    if getattr(function, "__name__", "") in ("__init__", "check_single_arg"):
        return function
    return _check(function)


def pytest_configure() -> None:
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
