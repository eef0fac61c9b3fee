import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from ncjax import frames
from ncjax.checks import InputError
from ncjax.metrics import class_moments, collapse

K, D = 5, 8


def random_case(seed: int = 0, counts: tuple[int, ...] = (9,) * K) -> tuple:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(K), counts)
    features = rng.normal(size=(K, D))[labels] + 0.3 * rng.normal(size=(len(labels), D)) + 1
    return features, labels, rng.normal(size=(K, D)), rng.normal(size=K)


def reference(features, labels, W, b, center_W=True) -> dict[str, float]:
    """The formulas of the papers, read off in float64 NumPy with SciPy's pinv."""
    fro = np.linalg.norm
    means = np.stack([features[labels == k].mean(0) for k in range(K)])
    h_G = features.mean(0)
    M = means - h_G
    deviations = features - means[labels]
    Sigma_W = deviations.T @ deviations / len(features)
    Sigma_B = M.T @ M / K
    E = (np.eye(K) - 1 / K) / np.sqrt(K - 1)
    variance = [np.square(deviations[labels == k]).sum(1).mean() for k in range(K)]
    pairs = [(i, j) for i in range(K) for j in range(i)]

    def frame(rows):
        unit = rows / fro(rows, axis=1, keepdims=True)
        cosines = np.array([unit[i] @ unit[j] for i, j in pairs])
        distances = np.array([fro(unit[i] - unit[j]) for i, j in pairs])
        energy = -np.log(distances).mean() + 0.5 * np.log(2 * K / (K - 1))
        return {
            "": fro(rows @ rows.T / fro(rows @ rows.T) - E),
            "_equinorm": fro(rows, axis=1).std() / fro(rows, axis=1).mean(),
            "_cosine_deviation": np.abs(cosines + 1 / (K - 1)).mean(),
            "_cosine_spread": cosines.std(),
            "_uniformity": energy,
        }

    V = W - W.mean(0) if center_W else W
    named = {
        f"nc2{name}_{suffix}": value
        for suffix, rows in [("means", M), ("classifier", V)]
        for name, value in frame(rows).items()
    }
    return named | {
        "nc1_pinv": np.trace(Sigma_W @ scipy.linalg.pinv(Sigma_B)) / K,
        "nc1_trace_ratio": np.trace(Sigma_W) / np.trace(Sigma_B),
        "cdnv": np.mean(
            [(variance[i] + variance[j]) / (2 * fro(means[i] - means[j]) ** 2) for i, j in pairs]
        ),
        "nc3_self_duality": fro(V / fro(V) - M / fro(M)) ** 2,
        "nc3_etf": fro(V @ M.T / fro(V @ M.T) - E),
        "nc4_bias": fro(b + W @ h_G),
    }


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("counts", [(9,) * K, (3, 20, 7, 1, 12)])
@pytest.mark.parametrize("center_W", [True, False])
def test_every_measure_equals_a_numpy_reading_of_the_papers(counts, center_W):
    features, labels, W, b = random_case(counts=counts)
    measured = collapse(class_moments(features, labels, K), W, b, center_W=center_W).as_dict()
    expected = reference(features, labels, W, b, center_W)
    assert measured.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(measured[name], value, rtol=1e-9, err_msg=name)


def collapsed_case(dtype: type = np.float64, d: int = D) -> tuple:
    M = np.asarray(frames.simplex_etf(K, d, jax.random.key(3)), dtype)
    labels = np.repeat(np.arange(K), 4)
    shift = np.arange(d, dtype=dtype)[None, :]
    W = 2 * M
    return (3 * M + shift)[labels], labels, W, -(W @ shift[0])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("d", [K - 1, K, D])
def test_every_measure_is_zero_at_exact_collapse(d):
    features, labels, W, b = collapsed_case(d=d)
    measured = collapse(class_moments(features, labels, K), W, b)
    assert not measured.undefined()
    for name, value in measured.as_dict().items():
        assert abs(float(value)) < 1e-12, name


def test_every_measure_is_near_zero_at_collapse_in_float32():
    features, labels, W, b = collapsed_case(np.float32)
    measured = collapse(class_moments(features, labels, K), W, b)
    for name, value in measured.as_dict().items():
        assert value.dtype == jnp.float32
        assert abs(float(value)) < 1e-5, name


@pytest.mark.usefixtures("x64")
def test_measures_do_not_see_rotation_scale_or_translation_of_features():
    features, labels, W, b = random_case()
    Q = np.linalg.qr(np.random.default_rng(1).normal(size=(D, D)))[0]
    shift = np.arange(D)
    before = collapse(class_moments(features, labels, K), W, b).as_dict()
    moved = class_moments(5 * (features + shift) @ Q, labels, K)
    after = collapse(moved, W @ Q / 5, b - W @ shift).as_dict()
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-9, err_msg=name)
    scaled = collapse(class_moments(features, labels, K), 7 * W, 7 * b).as_dict()
    assert np.isclose(scaled.pop("nc4_bias"), 7 * before["nc4_bias"])
    for name, value in scaled.items():
        np.testing.assert_allclose(value, before[name], rtol=1e-9, err_msg=name)


def test_float32_near_collapse_equals_float64():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(K), 50)
    means = 4 + rng.normal(size=(K, D))
    features = (means[labels] + 1e-3 * rng.normal(size=(len(labels), D))).astype(np.float32)
    W, b = rng.normal(size=(K, D)).astype(np.float32), rng.normal(size=K).astype(np.float32)
    single = collapse(class_moments(features, labels, K), W, b).as_dict()
    expected = reference(features.astype(np.float64), labels, W.astype(float), b.astype(float))
    for name in ("nc1_pinv", "nc1_trace_ratio", "cdnv", "nc2_means", "nc3_self_duality"):
        np.testing.assert_allclose(single[name], expected[name], rtol=2e-5, err_msg=name)


def test_without_a_classifier_only_the_means_are_measured():
    features, labels, _, _ = random_case()
    names = collapse(class_moments(features, labels, K)).as_dict()
    assert "nc1_pinv" in names
    assert not [name for name in names if "classifier" in name or name.startswith(("nc3", "nc4"))]


def test_coinciding_means_are_named_as_undefined():
    features, labels = np.ones((2 * K, 3), np.float32), np.repeat(np.arange(K), 2)
    undefined = collapse(class_moments(features, labels, K)).undefined()
    assert {"nc1_pinv", "nc1_trace_ratio", "cdnv", "nc2_means"} <= set(undefined)
    rows = np.tile(np.random.default_rng(0).normal(size=(1, 30)), (2 * K, 1)).astype(np.float32)
    noise = collapse(class_moments(rows, labels, K)).undefined()
    assert {"nc1_pinv", "nc1_trace_ratio", "nc2_means"} <= set(noise)


def test_an_empty_class_is_refused_or_under_jit_makes_every_measure_nan():
    features, labels, W, b = random_case()
    moments = class_moments(features, np.where(labels == 2, 1, labels), K)
    with pytest.raises(InputError, match="no sample of class 2"):
        collapse(moments, W, b)
    traced = jax.jit(collapse)(moments, W, b)
    assert len(traced.undefined()) == len(traced.as_dict())


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("W", "b", "message"),
    [
        (np.ones((K, D + 1)), None, "`W`.*shape"),
        (np.full((K, D), np.nan), None, "`W`.*NaN"),
        (np.ones((K, D)), np.ones(K + 1), "`b`.*shape"),
        (np.ones((K, D)), np.full(K, np.inf), "`b`.*infinite"),
        (None, np.ones(K), "`b`.*without W"),
    ],
)
def test_bad_classifiers_are_refused_by_name(W, b, message):
    features, labels, _, _ = random_case()
    with pytest.raises(InputError, match=message):
        collapse(class_moments(features, labels, K), W, b)
