import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.linalg
from matfree import decomp, eig

from ncjax import curvature
from ncjax.checks import InputError
from tests.curvature.conftest import matvec, with_spectrum

pytestmark = pytest.mark.usefixtures("x64")

SPECTRUM = np.r_[-3.0, -1.0, np.linspace(0, 2, 60), 5.0, 8.0]
SIZE = len(SPECTRUM)


def quadratic(x):
    A = jnp.asarray(with_spectrum(SPECTRUM)[0])
    return 0.5 * x @ A @ x


@pytest.mark.parametrize("backend", ["dense", "lanczos"])
@pytest.mark.parametrize(
    ("which", "k", "expected"),
    [
        ("SA", 2, [-3, -1]),
        ("LA", 2, [5, 8]),
        ("BE", 3, [-3, 5, 8]),
        ("BE", (2, 1), [-3, -1, 8]),
    ],
)
def test_the_ends_asked_for_come_ascending_from_both_backends(backend, which, k, expected):
    pairs = curvature.extreme_eigenpairs(
        quadratic, jnp.zeros(SIZE), k, which, num_steps=45, backend=backend
    )
    np.testing.assert_allclose(pairs.eigenvalues, expected, atol=1e-9)
    assert pairs.backend == backend
    assert pairs.converged.all()
    np.testing.assert_allclose(pairs.scale, 8, rtol=1e-6)


def test_top_and_bottom_take_from_one_run():
    pairs = curvature.extreme_eigenpairs(quadratic, jnp.zeros(SIZE), (2, 2), "BE", num_steps=45)
    np.testing.assert_allclose(pairs.top(1).eigenvalues, [8], atol=1e-9)
    np.testing.assert_allclose(pairs.bottom(2).eigenvalues, [-3, -1], atol=1e-9)
    assert pairs.top(2).eigenvectors.shape == (2, SIZE)
    with pytest.raises(InputError, match="`k`: got 5"):
        pairs.top(5)


def test_agrees_with_scipy_and_matfree_on_a_well_behaved_spectrum():
    A = with_spectrum(SPECTRUM)[0]
    ours = curvature.extreme_eigenpairs(
        curvature.linear_map(matvec, jnp.asarray(A)),
        jnp.zeros(SIZE),
        4,
        "BE",
        num_steps=45,
        backend="lanczos",
    )
    theirs = scipy.sparse.linalg.eigsh(A, 4, which="BE", return_eigenvectors=False)
    np.testing.assert_allclose(ours.eigenvalues, np.sort(theirs), atol=1e-9)
    tridiagonal = decomp.tridiag_sym(45, materialize=True, reortho="full")
    values, _ = eig.eigh_partial(tridiagonal)(lambda v: jnp.asarray(A) @ v, jnp.ones(SIZE))
    ends = jnp.sort(values)[jnp.array([0, 1, -2, -1])]
    np.testing.assert_allclose(ours.eigenvalues, ends, atol=1e-9)


def test_vmapped_problems_equal_a_loop():
    def run(A):
        operator = curvature.linear_map(matvec, A)
        return curvature.extreme_eigenpairs(
            operator, jnp.zeros(12), 2, num_steps=6, backend="lanczos"
        )

    matrices = jnp.stack([jnp.asarray(with_spectrum(np.arange(12.0), s)[0]) for s in range(3)])
    batched = jax.vmap(run)(matrices)
    for i, A in enumerate(matrices):
        one = run(A)
        np.testing.assert_allclose(batched.eigenvalues[i], one.eigenvalues, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(batched.residuals[i], one.residuals, rtol=1e-6)


def test_pytrees_go_in_and_come_out():
    def f(tree):
        return 3 * (tree["a"] ** 2).sum() - (tree["b"][0] ** 2).sum()

    point = {"a": jnp.ones((2, 2)), "b": [jnp.zeros(3)]}
    pairs = curvature.extreme_eigenpairs(f, point, 3, backend="lanczos")
    np.testing.assert_allclose(pairs.eigenvalues, -2)
    assert pairs.eigenvectors["b"][0].shape == (3, 3)
    assert float(jnp.abs(pairs.eigenvectors["a"]).max()) < 1e-12
    np.testing.assert_allclose(pairs.value, 12)
    np.testing.assert_allclose(pairs.gradient_norm, 12)


def test_half_precision_leaves_are_taken_to_float32():
    point = {"a": jnp.ones(3, jnp.bfloat16), "b": jnp.ones(2, jnp.float16)}

    def f(tree):
        return (tree["a"] ** 2).sum() + 2 * (tree["b"] ** 2).sum()

    pairs = curvature.extreme_eigenpairs(f, point, 5, backend="lanczos")
    np.testing.assert_allclose(pairs.eigenvalues, [2, 2, 2, 4, 4], rtol=1e-6)
    assert pairs.eigenvalues.dtype == jnp.float32


class Unhashable:
    __hash__ = None

    def __call__(self, x):
        return (x**2).sum()


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params": np.ones(3) * 1j}, "`params`: got dtype complex128"),
        ({"params": np.arange(3)}, "`params`: got dtype int64"),
        ({"params": {}}, "`params`: got no parameters"),
        ({"params": np.array([1.0, np.nan, 0.0])}, "`params`: got 1 entries that are NaN"),
        ({"k": 4}, "`k`: got 4, but it must be 1 to 3"),
        ({"k": 0}, "`k`"),
        ({"k": (1, 1)}, "`k`.*which='BE'"),
        ({"which": "SM"}, "`which`"),
        ({"backend": "dens"}, "Did you mean 'dense'"),
        ({"block": 5, "backend": "lanczos"}, "`block`: got 5"),
        ({"num_steps": 1, "k": 2, "backend": "lanczos"}, "`num_steps`: got 1"),
        ({"tol": -1.0}, "`tol`"),
        ({"start": np.ones(4), "backend": "lanczos"}, "`start`"),
        ({"basis_dtype": jnp.int32, "backend": "lanczos"}, "`basis_dtype`"),
        ({"f": Unhashable()}, "`f`: got unhashable .* Wrap it"),
        ({"f": lambda x: x**3}, "`f`: got a map that is not linear"),
        ({"f": lambda x: x**2, "params": np.ones(1)}, "`f`: .* must return a scalar"),
        ({"f": lambda x: x[:2]}, "`f`: got a result of shape \\(2,\\)"),
        ({"f": lambda x: (x**2).sum() > 0}, "`f`: got a result of dtype bool"),
        ({"f": lambda x: jnp.log(x - 2).sum()}, "`f`: .* NaN or infinite at params"),
        ({"f": lambda x: np.random.rand() * (x**2).sum()}, "`f`: .* changes from call to call"),
        (
            {"f": lambda x: jnp.tril(jnp.ones((3, 3))) @ x},
            "`f`: got a map that is not symmetric",
        ),
    ],
)
def test_bad_input_is_refused_by_name(change, message):
    settings = {"f": lambda x: (x**2).sum(), "params": np.ones(3), "k": 1, **change}
    with pytest.raises(InputError, match=message):
        curvature.extreme_eigenpairs(
            settings.pop("f"), settings.pop("params"), settings.pop("k"), **settings
        )


def test_what_does_not_fit_in_memory_is_refused_with_the_estimate():
    large = jnp.zeros(10**6, jnp.float32)
    with pytest.raises(InputError, match="`backend`: .* GiB"):
        curvature.dense_eigenpairs(lambda x: (x**2).sum(), large)
    with pytest.raises(InputError, match="`num_steps`: .* GiB"):
        curvature.extreme_eigenpairs(lambda x: (x**2).sum(), large, 1, num_steps=500_000)
