"""How far two sets of samples are apart, as Gaussians."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from jaxtyping import Float

from ncjax import checks
from ncjax.types import AnyArray


def frechet_distance(a: Float[AnyArray, "N d"], b: Float[AnyArray, "M d"]) -> float:
    r"""The squared Fréchet distance of Gaussians with the samples' means and covariances.

    $\|\mu_a - \mu_b\|^2 + \mathrm{tr}(\Sigma_a + \Sigma_b - 2 (\Sigma_a \Sigma_b)^{1/2})$; in
    features of Inception it is known as FID (Heusel et al. 2017, 1706.08500).

    Args:
        a: samples, as many as their dimension or more.
        b: others.

    Raises:
        InputError: dimensions that differ, or fewer than two samples.
    """
    a, b = (np.asarray(one, np.float64) for one in (a, b))
    checks.check_shape("b", b, (None, a.shape[1]), "[M, d], of the dimension of `a`")
    for name, one in (("a", a), ("b", b)):
        if len(one) < 2:
            raise checks.reject(name, f"{len(one)} sample(s)", "two or more")
    of_a, of_b = (np.atleast_2d(np.cov(one, rowvar=False)) for one in (a, b))
    # tr (A B)^(1/2) by the eigenvalues of A^(1/2) B A^(1/2), which is symmetric.
    values, vectors = scipy.linalg.eigh(of_a)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    middle = np.maximum(scipy.linalg.eigvalsh(root @ of_b @ root), 0)
    means = np.square(a.mean(0) - b.mean(0)).sum()
    return float(means + np.trace(of_a) + np.trace(of_b) - 2 * np.sqrt(middle).sum())
