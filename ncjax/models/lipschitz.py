"""How far each layer of a network can stretch its inputs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pandas as pd

from ncjax import curvature
from ncjax.models.convnorm import ConvNorm
from ncjax.models.heads import Head
from ncjax.types import AnyArray

KINDS = (nn.Conv, nn.Dense, nn.BatchNorm, ConvNorm, Head)


@dataclasses.dataclass(frozen=True)
class _Call:
    """A layer, with its own variables, and what it was called with."""

    name: str
    module: nn.Module
    variables: Mapping[str, Any]
    x: jax.Array

    def norm(self, **settings: Any) -> curvature.OperatorNorm:
        """Of the layer, which is linear but for an offset."""

        def linear(x: jax.Array) -> jax.Array:
            layer = functools.partial(self.module.apply, self.variables)
            return jax.jvp(layer, (jnp.zeros_like(x),), (x,))[1]

        return curvature.operator_norm(linear, self.x, **settings)

    def bare(self) -> _Call:
        """ConvNorm without filter and batch normalisation; other layers as they are."""
        if not isinstance(self.module, ConvNorm):
            return self
        kept = {"params": {"kernel": self.variables["params"]["kernel"]}}
        module = self.module.clone(affine=False, batch_norm=False, use_running_average=False)
        return dataclasses.replace(self, module=module, variables=kept)


def layer_norms(
    model: nn.Module,
    variables: Mapping[str, Any],
    x: AnyArray,
    *,
    num_steps: int = 500,
    tolerance: float = 1e-2,
) -> pd.DataFrame:
    """The largest singular value of every linear layer, in inference, by power iteration.

    Of convolutions with their padding and strides, dense layers, batch normalisation and ConvNorm.
    The product over the layers of a chain bounds its Lipschitz constant if nothing between them
    stretches, as ReLU and pooling do not; around a skip connection norms add up.

    Args:
        model: takes `(x, train=False)`; with native convolutions, as `load_run` has them.
        variables: of it.
        x: inputs `[N, ...]`, of which the shape of one counts.
        num_steps: of power iteration, at most.
        tolerance: of its residual.

    Returns:
        A row a layer, in the order of calls: `layer`, its path; `kind`; `norm`; `bare`, of ConvNorm
        the norm without filter and batch normalisation, of others the same; `converged`.
    """
    run, kinds = _compiled(model, num_steps, tolerance)
    rows = []
    for name, (norm, bare) in jax.device_get(run(variables, jnp.asarray(x)[:1])).items():
        values = {"norm": float(norm.value), "bare": float(bare.value)}
        converged = bool(norm.converged & bare.converged)
        rows.append({"layer": name, "kind": kinds[name], **values, "converged": converged})
    return pd.DataFrame(rows).set_index("layer").loc[list(kinds)].reset_index()


@functools.lru_cache(maxsize=16)
def _compiled(model: nn.Module, num_steps: int, tolerance: float) -> tuple[Any, dict[str, str]]:
    """All norms as one program, and the kinds of the layers, in their order, once it has run."""
    kinds: dict[str, str] = {}

    def norms(variables: Mapping[str, Any], x: jax.Array) -> dict[str, Any]:
        found = {}
        for call in _calls(model, variables, x):
            kinds[call.name] = type(call.module).__name__
            settings = {"num_steps": num_steps, "tolerance": tolerance}
            norm, bare = call.norm(**settings), call.bare()
            found[call.name] = norm, norm if bare is call else bare.norm(**settings)
        return found

    return jax.jit(norms), kinds


def _calls(model: nn.Module, variables: Mapping[str, Any], x: jax.Array) -> list[_Call]:
    met: dict[str, _Call] = {}

    def remember(call: Any, args: tuple, kwargs: dict, context: Any) -> Any:
        module = context.module
        inside = isinstance(module.parent, ConvNorm)
        if isinstance(module, KINDS) and context.method_name == "__call__" and not inside:
            name = "/".join(module.path)
            met.setdefault(name, _Call(name, *module.unbind(), args[0]))
        return call(*args, **kwargs)

    with nn.intercept_methods(remember):
        model.apply(variables, x, train=False)
    return list(met.values())
