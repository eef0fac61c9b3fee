"""The checker of annotations during tests: beartype, with int accepted where float is asked for.

Constructors are left alone: JAX rebuilds result pytrees with whatever it maps over them (shapes,
shardings, NumPy arrays), which is not what their fields promise to a user.
"""

from beartype import BeartypeConf, beartype

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function):
    if getattr(function, "__name__", "") in ("__init__", "check_single_arg"):
        return function
    return _check(function)
