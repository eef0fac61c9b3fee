"""Restricting an operator to chosen layers: the diagonal blocks of a Hessian, by path pattern."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ncjax import checks
from ncjax.curvature.operators import Operator, Parts, Setup
from ncjax.curvature.program import Function, locate


def leaf_paths(params: Any) -> list[str]:
    """The path of each leaf, such as "Dense_0/kernel", in the order of `jax.tree.leaves`.

    Raises:
        InputError: two leaves with the same path.
    """
    paths = [path for path, _ in jax.tree.leaves_with_path(params)]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise checks.reject("params", f"two leaves of the path {twice[0]}", "of distinct paths")
    return names


def blocks(params: Any, patterns: str | Sequence[str]) -> dict[str, list[str]]:
    """Groups leaves into blocks by glob patterns.

    A pattern is held against as many leading components of a path as it has itself: "Dense_*"
    makes one block of each dense layer, "*/kernel" one of each kernel, "head" that of the head.

    Args:
        params: the pytree.
        patterns: one or more glob patterns.

    Returns:
        The leaf paths of each block, by the block's name, in the order of the leaves.

    Raises:
        InputError: a pattern that matches nothing, with what there is.
    """
    found: dict[str, list[str]] = {}
    paths = leaf_paths(params)
    for pattern in (patterns,) if isinstance(patterns, str) else patterns:
        depth = pattern.count("/") + 1
        heads = {path: "/".join(path.split("/")[:depth]) for path in paths}
        matched = [path for path in paths if fnmatch.fnmatchcase(heads[path], pattern)]
        if not matched:
            raise checks.reject("layers", repr(pattern), f"a pattern of {', '.join(paths)}")
        for path in matched:
            members = found.setdefault(heads[path], [])
            if path not in members:
                members.append(path)
    return found


def restrict(
    f: Function, params: Any, patterns: str | Sequence[str]
) -> tuple[Operator, dict[str, jax.Array]]:
    """The diagonal block of a Hessian or other operator over the chosen leaves.

    Args:
        f: as in `extreme_eigenpairs`.
        params: the point.
        patterns: one or more glob patterns, as in `blocks`; all that match make one block.

    Returns:
        The restricted operator, and its point: the chosen leaves by path. Hand both to any
        function of this room. A product costs as much as one of the whole operator.

    Raises:
        InputError: as `blocks` and `extreme_eigenpairs`.

    Examples:
        >>> from ncjax import curvature
        >>> params = {"first": jnp.ones(2), "head": jnp.ones(1)}
        >>> f = lambda p: (p["first"] ** 2).sum() + 5 * (p["head"] ** 2).sum()
        >>> curvature.dense_eigenpairs(*restrict(f, params, "first")).eigenvalues
        Array([2., 2.], dtype=float32)
    """
    found = blocks(params, patterns).values()
    return restrict_to(f, params, [path for block in found for path in block])


def restrict_to(
    f: Function, params: Any, members: Sequence[str]
) -> tuple[Operator, dict[str, jax.Array]]:
    """As `restrict`, for leaves named by their exact paths."""
    located = locate(f, params)
    operator = located.operator
    chosen = {
        path: leaf
        for path, leaf in zip(leaf_paths(params), jax.tree.leaves(located.point), strict=True)
        if path in members
    }
    restricted = dataclasses.replace(
        operator,
        setup=_Restricted(operator.setup),
        args=(located.point, *operator.args),
        shared=operator.shared + 1,
    )
    return restricted, chosen


@dataclasses.dataclass(frozen=True)
class _Restricted:
    """The whole operator between embedding and picking; args are (whole point, *its args)."""

    whole: Setup

    def __call__(self, point: dict[str, jax.Array], args: tuple) -> Parts:
        around, *rest = args
        paths, structure = leaf_paths(around), jax.tree.structure(around)
        leaves = dict(zip(paths, jax.tree.leaves(around), strict=True))
        zeros = {path: jnp.zeros_like(leaf) for path, leaf in leaves.items()}

        def embedded(part: dict[str, jax.Array], others: dict[str, jax.Array]) -> Any:
            return jax.tree.unflatten(structure, [{**others, **part}[path] for path in paths])

        def picked(tree: Any) -> dict[str, jax.Array]:
            found = dict(zip(paths, jax.tree.leaves(tree), strict=True))
            return {path: found[path] for path in point}

        value, gradient, product = self.whole(embedded(point, leaves), tuple(rest))
        return Parts(
            value,
            None if gradient is None else picked(gradient),
            lambda vector: picked(product(embedded(vector, zeros))),
        )
