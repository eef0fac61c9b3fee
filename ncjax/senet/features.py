"""Scattering features of images, as SENet's clusterings of images take them (2110.04318, code)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Num
from sklearn.decomposition import TruncatedSVD

from ncjax import checks, progress, runs
from ncjax.types import AnyArray

SIDE = 32
"""Images are resized to this many pixels a side."""
SCALES = 3
"""J: averages over squares of 2^J pixels."""
BATCH = 100


def scattering_features(
    images: Num[AnyArray, "N H W"],
    dim: int = 500,
    *,
    cache: Path | str | None = None,
    seed: int = 0,
    verbose: bool = False,
) -> np.ndarray:
    """Two layers of scattering, channels scaled to at most 1, in their leading directions.

    Args:
        images: grey, of any size, `[N, H, W]`.
        dim: leading singular directions (not centred) of all images together.
        cache: folder in which features are kept, and found again by the images' digest; None for
            no keeping.
        seed: of the randomised decomposition.
        verbose: a progress bar.

    Returns:
        float32 `[N, dim]`.

    Raises:
        InputError: another shape, NaN, more directions than images or coefficients, or kymatio is
            missing.
    """
    checks.check_shape("images", images, (None, None, None), "[N, H, W]")
    checks.check_finite("images", images)
    images = np.asarray(images, np.float32)
    checks.check_count("dim", dim, 1)
    if dim > len(images):
        raise checks.reject("dim", dim, f"at most {len(images)}, the images")
    settings = f"{images.shape}-{dim}-{seed}-{SIDE}-{SCALES}".encode()
    digest = hashlib.sha256(images.tobytes() + settings).hexdigest()[:16]
    path = None if cache is None else Path(cache) / f"scattering-{digest}.npy"
    if path is not None and path.exists():
        return np.load(path)
    flat = _scattered(images, verbose).reshape(len(images), -1)
    features = TruncatedSVD(dim, random_state=seed).fit_transform(flat).astype(np.float32)
    if path is not None:
        runs.write_atomically(path, lambda draft: np.save(draft, features))
    return features


def _scattered(images: np.ndarray, verbose: bool) -> np.ndarray:
    """Scattering coefficients `[N, channels, 4, 4]`, each channel over its largest modulus."""
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

    parts = []
    for start in progress.bar(range(0, len(images), BATCH), desc="scattering", show=verbose):
        rows = np.minimum(np.arange(start, start + BATCH), len(images) - 1)
        parts.append(np.asarray(of_batch(jnp.asarray(images[rows])))[: len(images) - start])
    found = np.concatenate(parts)
    largest = np.abs(found).max((0, 2, 3), keepdims=True)
    return found / np.where(largest > 0, largest, 1)
