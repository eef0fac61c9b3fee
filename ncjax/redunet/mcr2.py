r"""Maximal coding rate reduction as a training objective for any network, and a variational form.

The exact objective takes a determinant for every class. The variational one (after 2204.00077)
writes the mean of $z z^\top$ over class j as $U \mathrm{diag}(a_j) U^\top$ with a dictionary of
unit atoms that all classes share, and needs none of them:

$$R(Z) - \sum_j \tfrac{N_j}{2N} \sum_l \log\Bigl(1 + \tfrac{d}{\epsilon^2} a_{jl}\Bigr)
  - \tfrac{\mu}{2} \sum_j
  \bigl\| \tfrac{1}{N_j} Z_j^\top Z_j - U \mathrm{diag}(a_j) U^\top \bigr\|_F^2 .$$

Of all ways to write the covariances exactly, the sum of logarithms is smallest for their
eigenvectors, where it is R_c: the variational value never exceeds Delta R where the penalty is 0.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer

from ncjax import checks
from ncjax.redunet.groups import counts_of, places_by, rows_of
from ncjax.redunet.rates import coding_rate, covariance, rate_reduction
from ncjax.redunet.spectra import to_spectra
from ncjax.types import AnyArray, Scalar

_HIGHEST = jax.lax.Precision.HIGHEST
EPS = 0.5**0.5
"""The precision of the official MCR2 scripts, which name its square, 0.5."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Dictionary:
    """How classes are spanned: ascended together with the features, and found anew by `latch`.

    Held fixed it would hold the features where they are.

    Attributes:
        atoms: U; used at unit length, `[q, d]`.
        amounts: a_j, used where positive, `[K, q]`.
    """

    atoms: jax.Array
    amounts: jax.Array


def mcr2_loss(
    features: Float[AnyArray, "N d"],
    labels: Integer[AnyArray, " N"],
    eps: Scalar = EPS,
    *,
    num_classes: int | None = None,
    largest_class: int | None = None,
) -> Float[jax.Array, ""]:
    """-Delta R of the features at unit length, in nats: a loss of a batch, not of one sample.

    Batches need several times more samples than features have dimensions.

    Args:
        features: of a batch, of any length.
        labels: class indices.
        eps: precision, > 0 (not its square).
        num_classes: K; to be given under `jit`.
        largest_class: most samples of a class in a batch, where labels are traced
            (`rate_reduction`): it spares much where classes are many.

    Raises:
        InputError: as of `rate_reduction`.
    """
    settings = {"num_classes": num_classes, "largest_class": largest_class}
    return -rate_reduction(unit(features), labels, eps, **settings)


def unit(features: Float[AnyArray, "N d"]) -> Float[jax.Array, "N d"]:
    """Features at unit length; those of no length stay zero, with a finite gradient."""
    features = jnp.asarray(features)
    squares = jnp.square(features).sum(1, keepdims=True)
    return features * jax.lax.rsqrt(jnp.maximum(squares, 1e-16))


def latch(
    features: Float[AnyArray, "N d"],
    labels: Integer[AnyArray, " N"],
    *,
    num_classes: int,
    atoms_per_class: int,
    largest_class: int | None = None,
) -> Dictionary:
    """The best dictionary of leading eigenvectors of each class.

    Args:
        features: at unit length.
        labels: class indices.
        num_classes: K.
        atoms_per_class: q/K, at most d; with d the variational form is exact.
        largest_class: see `mcr2_loss`.

    Raises:
        InputError: more atoms than dimensions.
    """
    features = jnp.asarray(features)
    d = features.shape[1]
    checks.check_count("atoms_per_class", atoms_per_class, 1)
    if atoms_per_class > d:
        raise checks.reject("atoms_per_class", atoms_per_class, f"at most {d}, the dimensions")
    values, vectors = jnp.linalg.eigh(
        _second_moments(features, labels, num_classes, largest_class)[0]
    )
    leading = slice(d - atoms_per_class, None)
    own = jnp.maximum(values[:, leading], 0)
    places = jnp.eye(num_classes, dtype=own.dtype)
    amounts = (places[:, :, None] * own[:, None, :]).reshape(num_classes, -1)
    return Dictionary(vectors[:, :, leading].swapaxes(1, 2).reshape(-1, d), amounts)


def variational_rate_reduction(
    features: Float[AnyArray, "N d"],
    labels: Integer[AnyArray, " N"],
    dictionary: Dictionary,
    eps: Scalar = EPS,
    *,
    penalty: Scalar = 100.0,
    largest_class: int | None = None,
) -> Float[jax.Array, ""]:
    """The variational form of Delta R, in nats; to be ascended in features and dictionary.

    Args:
        features: at unit length.
        labels: class indices.
        dictionary: of q atoms for K classes.
        eps: precision, > 0 (not its square).
        penalty: mu, on covariances that the dictionary leaves unexplained. Where it is small, the
            form is ascended by a dictionary that explains nothing, and Delta R falls.
        largest_class: see `mcr2_loss`.

    Raises:
        InputError: as of `rate_reduction`, or a dictionary of other dimensions.
    """
    K, q = dictionary.amounts.shape
    features = jnp.asarray(features)
    d = features.shape[1]
    checks.check_shape("dictionary.atoms", dictionary.atoms, (q, d), "[q, d]")
    moments, shares = _second_moments(features, labels, K, largest_class)
    atoms, amounts = unit(dictionary.atoms), jnp.maximum(dictionary.amounts, 0)
    logs = jnp.log1p(d / eps**2 * amounts).sum(1)
    weighted = amounts[:, :, None] * atoms[None]
    explained = jnp.matmul(weighted.swapaxes(1, 2), atoms[None], precision=_HIGHEST)
    left = jnp.square(moments - explained).sum((1, 2)) @ (shares > 0).astype(logs.dtype)
    return coding_rate(features, eps) - shares @ logs / 2 - penalty * left / 2


def _second_moments(
    features: jax.Array, labels: AnyArray, num_classes: int, largest_class: int | None
) -> tuple[jax.Array, jax.Array]:
    """Means of z z^T over each class, `[K, d, d]`, and the classes' shares of the samples."""
    spectra = to_spectra(features)
    places = places_by(labels, num_classes, largest_class, len(features))
    counts = counts_of(spectra, places)
    scales = 1 / jnp.maximum(counts, 1)

    def of_class(one: tuple[jax.Array, jax.Array]) -> jax.Array:
        return one[1] * covariance(rows_of(spectra, one[0]))[0]

    moments = jax.lax.map(of_class, (jnp.asarray(places), scales))
    return moments, counts / counts.sum()
