"""The estimator for signals and images, whose layers commute with circular shifts (2105.10446)."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from sklearn.utils.validation import validate_data

from ncjax import checks
from ncjax.redunet.estimators import NO_LABELS, Classifier, Construction, ReduNet
from ncjax.redunet.lifting import lift, random_filters
from ncjax.redunet.spectra import FFTNorm
from ncjax.types import AnyArray, Samples


class ShiftInvariantReduNet(ReduNet):
    """A network for signals `[N, T]` or images `[N, H, W]`, with channels or without.

    Samples are lifted to channels by random circular filters, and every layer acts alike on all
    circular shifts: features of a shifted sample are the shifted features. In float32 rounding
    grows from layer to layer where eps is small, and operators lose digits where C T / eps^2 is
    large (C channels, T positions); under `jax.enable_x64` both are far away.

    Args:
        channels: filters of the lifting, standard normal ones.
        filter_size: of a filter in each direction.
        positions: 1 for signals, 2 for images.
        seed: of the filters.
        fft_norm: see `ncjax.redunet.Spectra`.
        settings: of `ReduNet`.

    Attributes:
        input_shape_: of a sample, channels last.
    """

    def __init__(
        self,
        num_layers: int = 20,
        eps: float = 0.1**0.5,
        step: float = 0.5,
        sharpness: float = 500.0,
        *,
        channels: int = 20,
        filter_size: int = 5,
        positions: int = 2,
        seed: int = 0,
        fft_norm: FFTNorm = "backward",
        construction: Construction = "samples",
        classifier: Classifier = "network",
        plateau: float | None = None,
        streamed: bool = False,
        batch_size: int = 100,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            num_layers,
            eps,
            step,
            sharpness,
            construction=construction,
            classifier=classifier,
            plateau=plateau,
            streamed=streamed,
            batch_size=batch_size,
            verbose=verbose,
        )
        self.channels = channels
        self.filter_size = filter_size
        self.positions = positions
        self.seed = seed
        self.fft_norm = fft_norm

    def _check_settings(self) -> None:
        super()._check_settings()
        for name in ("channels", "filter_size"):
            checks.check_count(name, getattr(self, name), 1)
        if self.positions not in (1, 2):
            raise checks.reject("positions", self.positions, "1 for signals or 2 for images")
        checks.check_choice("fft_norm", self.fft_norm, ("backward", "ortho"))

    @property
    def _fft_norm(self) -> FFTNorm:
        return self.fft_norm

    def _validated(self, X: Samples, y: Samples = NO_LABELS, *, reset: bool = True) -> Any:
        settings = {"reset": reset, "dtype": self._dtype, "allow_nd": True, "ensure_2d": False}
        found = validate_data(self, X, y, **settings)
        X, *labels = found if isinstance(found, tuple) else (found,)
        if X.ndim == self.positions + 1:
            X = X[..., None]
        if X.ndim != self.positions + 2:
            axes = "[N, T]" if self.positions == 1 else "[N, H, W]"
            accepted = f"of shape {axes}, or with a last axis of channels"
            raise checks.reject("X", f"shape {X.shape}", accepted)
        shape = list(X.shape[1:])
        if self.filter_size > min(shape[:-1]):
            accepted = f"at most {min(shape[:-1])}, the samples' smaller side"
            raise checks.reject("filter_size", self.filter_size, accepted, "Take smaller filters.")
        if reset:
            self.input_shape_ = shape
        elif shape != self.input_shape_:
            raise checks.reject("X", f"samples of shape {shape}", f"of shape {self.input_shape_}")
        return (X, *labels) if labels else X

    def _blank(self) -> np.ndarray:
        return np.zeros((1, *self.input_shape_), self._dtype)

    def _lifted(self, X: AnyArray) -> jax.Array:
        filters = random_filters(
            self.seed, self.channels, self.filter_size, X.shape[-1], self.positions
        )
        return lift(X, filters)
