import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import ufm
from ncjax.checks import InputError
from tests.ufm.conftest import dense, hessians, make, points

SIZE = (3, 4, (2, 1, 2))


@jax.jit
def sliced(batch, problem, places):
    over_places = jax.vmap(lambda p, i: ufm.eigenpair(p, problem, i), in_axes=(None, 0))
    return jax.vmap(over_places, in_axes=(0, None))(batch, places)


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_eigenpairs_by_place_agree_with_the_dense_spectrum(loss):
    problem = make(loss, SIZE)
    batch = points(problem)
    spectra = dense(batch, problem)
    places = np.append(np.arange(spectra.shape[1]), -1)
    found = sliced(batch, problem, jnp.asarray(places))
    assert found.converged.all()
    # Also where eigenvalues stand closer together than 1e-9, as they do at critical points.
    error = np.abs(found.eigenvalue - spectra[:, places]).max(axis=1)
    assert (error < 1e-12 * np.abs(spectra).max(axis=1)).all()

    flat = jax.vmap(jax.vmap(lambda v: jax.flatten_util.ravel_pytree(v)[0]))(found.vector)
    np.testing.assert_allclose(np.linalg.norm(flat, axis=-1), 1, rtol=1e-12)
    product = np.einsum("pij,pkj->pki", hessians(batch, problem), flat)
    residual = np.linalg.norm(product - found.eigenvalue[..., None] * flat, axis=-1)
    np.testing.assert_allclose(found.residual, residual, atol=1e-13)


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_bisection_on_the_counts_alone_finds_every_eigenvalue(loss):
    problem = make(loss, SIZE)
    batch = points(problem)
    expected = dense(batch, problem)
    places = jnp.arange(expected.shape[1])
    one = jax.vmap(lambda p, i: ufm.eigenvalue(p, problem, i), in_axes=(None, 0))
    found = jax.vmap(one, in_axes=(0, None))(batch, places)
    error = np.abs(found - expected).max(axis=1)
    assert (error < 1e-12 * np.abs(expected).max(axis=1)).all()


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("function", [ufm.eigenvalue, ufm.eigenpair])
def test_params_of_another_problem_are_refused_by_name(function):
    problem = make("cross_entropy", SIZE)
    params = ufm.init(jax.random.key(0), problem)
    call = functools.partial(function, problem=problem, index=0)
    with pytest.raises(InputError, match=r"`params.W`.*\[K, d\]"):
        call(ufm.Params(params.W[:2], params.H, params.b))
    with pytest.raises(InputError, match=r"`params.H`.*NaN"):
        call(ufm.Params(params.W, params.H.at[0, 0].set(jnp.nan), params.b))
