"""Scattering features of images, as SENet's clusterings of images take them (2110.04318, code)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Num
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import TruncatedSVD
from sklearn.utils.validation import check_is_fitted

from ncjax import checks, progress, runs
from ncjax.types import AnyArray

SIDE = 32
"""Images are resized to this many pixels a side."""
SCALES = 3
"""J: averages over squares of 2^J pixels."""
COEFFICIENTS = (1 + 8 * SCALES + 64 * SCALES * (SCALES - 1) // 2) * (SIDE >> SCALES) ** 2
"""Of an image: orders 0, 1 and 2, at 8 angles, on a grid of 4 x 4."""
BATCH = 100


class ScatteringFeatures(TransformerMixin, BaseEstimator):
    """Two layers of scattering, channels scaled to at most 1, in their leading directions.

    Args:
        dim: leading singular directions (not centred) of the images it is fitted to.
        random_state: seed of the randomised decomposition.
        verbose: a progress bar.

    Attributes:
        scale_: largest modulus of each channel, `[channels, 1, 1]`.
        svd_: the directions (`TruncatedSVD`).
    """

    def __init__(self, dim: int = 500, *, random_state: int = 0, verbose: bool = False) -> None:
        self.dim = dim
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, images: Num[AnyArray, "N H W"], y: Any = None) -> ScatteringFeatures:
        """Finds scales and directions.

        Args:
            images: grey, of any size, `[N, H, W]`.
            y: not used.

        Raises:
            InputError: another shape, NaN, more directions than images or coefficients, or kymatio
                is missing.
        """
        self.fit_transform(images, y)
        return self

    def fit_transform(self, images: Num[AnyArray, "N H W"], y: Any = None) -> np.ndarray:
        """The features of the images that it is fitted to, float32 `[N, dim]`; see `fit`."""
        del y
        images = _checked(images)
        checks.check_count("dim", self.dim, 1)
        most = min(len(images), COEFFICIENTS)
        if self.dim > most:
            raise checks.reject("dim", self.dim, f"at most {most}, the images or coefficients")
        found = _scattered(images, self.verbose)
        axes = (0, 2, 3)
        largest = np.maximum(found.max(axes, keepdims=True), -found.min(axes, keepdims=True))
        self.scale_ = np.where(largest > 0, largest, 1)[0]
        self.svd_ = TruncatedSVD(self.dim, random_state=self.random_state)
        found /= self.scale_
        return self.svd_.fit_transform(found.reshape(len(found), -1)).astype(np.float32)

    def transform(self, images: Num[AnyArray, "N H W"]) -> np.ndarray:
        """Features of other images, in the same directions, float32 `[N, dim]`.

        Args:
            images: grey, `[N, H, W]`.
        """
        check_is_fitted(self, "svd_")
        found = _scattered(_checked(images), self.verbose)
        found /= self.scale_
        return self.svd_.transform(found.reshape(len(found), -1)).astype(np.float32)


def scattering_features(
    images: Num[AnyArray, "N H W"],
    dim: int = 500,
    *,
    cache: Path | str | None = None,
    seed: int = 0,
    verbose: bool = False,
) -> np.ndarray:
    """Features of images that are all there, kept on disk; see `ScatteringFeatures`.

    Args:
        images: grey, of any size, `[N, H, W]`.
        dim: leading singular directions of all images together.
        cache: folder in which features are kept, and found again by the images' digest; None for
            no keeping.
        seed: of the randomised decomposition.
        verbose: a progress bar.

    Returns:
        float32 `[N, dim]`.

    Raises:
        InputError: what `ScatteringFeatures` refuses.
    """
    images = _checked(images)
    made = ScatteringFeatures(dim, random_state=seed, verbose=verbose)
    if cache is None:
        return made.fit_transform(images)
    settings = f"{images.shape}-{dim}-{seed}-{SIDE}-{SCALES}".encode()
    digest = hashlib.sha256(images.tobytes() + settings).hexdigest()[:16]
    path = Path(cache) / f"scattering-{digest}.npy"
    if path.exists():
        return np.load(path)
    path.parent.mkdir(parents=True, exist_ok=True)  # now: the work takes minutes
    features = made.fit_transform(images)
    runs.write_atomically(path, lambda draft: np.save(draft, features))
    return features


def _checked(images: AnyArray) -> np.ndarray:
    checks.check_shape("images", images, (None, None, None), "[N, H, W]")
    checks.check_finite("images", images)
    return np.asarray(images, np.float32)


def _scattered(images: np.ndarray, verbose: bool) -> np.ndarray:
    """Scattering coefficients `[N, channels, 4, 4]`."""
    try:
        # Its top-level modules do not import where SciPy is new.
        from kymatio.scattering2d.frontend.jax_frontend import ScatteringJax2D
    except ImportError as error:
        remedy = "Install it with `pip install 'ncjax[senet]'`."
        raise checks.reject("images", "no kymatio to scatter them", "with it", remedy) from error
    scattering = ScatteringJax2D(J=SCALES, shape=(SIDE, SIDE))

    @jax.jit
    def of_batch(batch: jax.Array) -> jax.Array:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return scattering(jax.image.resize(batch, (len(batch), SIDE, SIDE), "bilinear"))

    grid = SIDE >> SCALES
    found = np.empty((len(images), COEFFICIENTS // grid**2, grid, grid), np.float32)
    for start in progress.bar(range(0, len(images), BATCH), desc="scattering", show=verbose):
        rows = np.minimum(np.arange(start, start + BATCH), len(images) - 1)
        part = np.asarray(of_batch(jnp.asarray(images[rows])))
        found[start : start + BATCH] = part[: len(images) - start]
    return found
