"""Orthogonal convolutions by other means, for comparison with `ncjax.models.ConvNorm`.

Both are our reading of the papers: a penalty on the convolution's departure from an orthogonal
operator (OCNN, Wang et al. 2020, 1911.12207), and kernels made orthogonal, as matrices, by Newton's
iteration (ONI, Huang et al. 2020, 2004.00917).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ncjax.types import AnyArray

NEWTON_STEPS = 5


def orthogonality(kernel: Float[AnyArray, "h w I O"], stride: int = 1) -> Float[Array, ""]:
    """|K * K - 1|^2 of a convolution: 0 if its rows, or its columns if fewer, are orthonormal.

    Rows, one for each place and output channel, are orthonormal if the kernels' correlations with
    each other, at all shifts that the stride allows, are 1 for a kernel with itself unshifted and 0
    else. Where there are more rows than columns (O > stride^2 I), the columns' are compared, at
    stride 1; with a stride beyond 1 the matrix of the kernel is, as in the paper.

    Args:
        kernel: of an undilated convolution.
        stride: along both axes.
    """
    kernel = jnp.asarray(kernel)
    inputs, outputs = kernel.shape[2:]
    if outputs > stride**2 * inputs:
        if stride > 1:
            matrix = kernel.reshape(-1, outputs)
            return jnp.square(matrix @ matrix.T - jnp.eye(len(matrix))).sum()
        kernel = kernel.swapaxes(2, 3)
    images = kernel.transpose(3, 0, 1, 2)  # one for each kernel
    reach = [(size - 1) // stride * stride for size in kernel.shape[:2]]
    correlations = lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        [(r, r) for r in reach],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    centre = tuple(r // stride for r in reach)
    target = jnp.zeros_like(correlations).at[:, *centre].set(jnp.eye(len(images)))
    return jnp.square(correlations - target).sum()


def newton_orthogonal(
    kernel: Float[AnyArray, "*sizes I O"], steps: int = NEWTON_STEPS
) -> Float[Array, "*sizes I O"]:
    """The kernel with output channels nearly orthonormal, as vectors, by Newton's iteration.

    With W the centred kernel `[O, sizes I]`, B approaches (W W^T)^(-1/2), and B W is returned.
    Small singular values approach 1 last, so that few steps bound rather than equalise them.

    Args:
        kernel: of a convolution.
        steps: of the iteration B <- (3 B - B^3 S) / 2, where S = W W^T at a norm of 1.
    """
    kernel = jnp.asarray(kernel)
    rows = kernel.reshape(-1, kernel.shape[-1]).T
    rows = rows - rows.mean(1, keepdims=True)
    gram = rows @ rows.T
    size = jnp.linalg.norm(gram)
    size = jnp.where(size > 0, size, 1)
    gram, rows = gram / size, rows / jnp.sqrt(size)

    def step(B: jax.Array, _: None) -> tuple[jax.Array, None]:
        return (3 * B - B @ B @ B @ gram) / 2, None

    B, _ = lax.scan(step, jnp.eye(len(rows), dtype=rows.dtype), None, length=steps)
    return (B @ rows).T.reshape(kernel.shape)
