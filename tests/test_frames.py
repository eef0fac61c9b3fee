import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from ncjax import frames
from ncjax.checks import InputError

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize(("num_classes", "dim"), [(2, 1), (4, 3), (4, 4), (4, 9), (10, 9)])
@pytest.mark.parametrize("rotated", [False, True])
def test_simplex_etf_has_unit_vectors_at_equal_angles_that_sum_to_zero(num_classes, dim, rotated):
    M = frames.simplex_etf(num_classes, dim, jax.random.key(0) if rotated else None)
    gram = np.full((num_classes, num_classes), -1 / (num_classes - 1))
    np.fill_diagonal(gram, 1)
    assert M.shape == (num_classes, dim)
    np.testing.assert_allclose(M @ M.T, gram, atol=1e-14)
    np.testing.assert_allclose(M.sum(0), 0, atol=1e-14)


def test_without_a_key_the_frame_fills_the_first_coordinates_as_in_the_papers():
    M = frames.simplex_etf(3, 5)
    np.testing.assert_allclose(M[:, :3], np.sqrt(3 / 2) * (np.eye(3) - 1 / 3))
    np.testing.assert_array_equal(M[:, 3:], 0)


def test_orthogonal_frame_is_orthonormal():
    M = frames.orthogonal_frame(3, 5, jax.random.key(1))
    np.testing.assert_allclose(M @ M.T, np.eye(3), atol=1e-14)


def test_distances_vanish_on_their_frame_at_any_scale_and_not_on_the_other():
    etf, orthogonal = frames.simplex_etf(4, 6), frames.orthogonal_frame(4, 6)
    assert frames.distance_to_simplex_etf(7 * etf @ etf.T) < 1e-14
    assert frames.distance_to_orthogonal_frame(7 * orthogonal @ orthogonal.T) < 1e-14
    # <P/sqrt(K-1), I/sqrt(K)> = sqrt((K-1)/K)
    expected = np.sqrt(2 - 2 * np.sqrt(3 / 4))
    np.testing.assert_allclose(frames.distance_to_simplex_etf(jnp.eye(4)), expected)
    np.testing.assert_allclose(frames.distance_to_orthogonal_frame(etf @ etf.T), expected)


def test_alignment_is_one_up_to_rotation_scale_and_dimension_and_less_otherwise():
    A = frames.simplex_etf(4, 3)
    B = 5 * frames.simplex_etf(4, 8, jax.random.key(2))
    np.testing.assert_allclose(frames.alignment(A, B), 1, rtol=1e-12)
    noise = jax.random.normal(jax.random.key(3), (4, 8))
    assert frames.alignment(A, noise) < 0.95


@pytest.mark.parametrize(
    ("num_classes", "dim", "cosine", "distance"),
    [
        (4, 3, -1 / 3, 4 / 3),  # simplex
        (4, 7, -1 / 3, 4 / 3),
        (2, 1, -1, 2),
        (5, 2, np.cos(2 * np.pi / 5), 1 - np.cos(2 * np.pi / 5)),  # polygon: a chord away
        (8, 2, np.cos(np.pi / 4), 1 - np.cos(np.pi / 4)),
        (6, 3, 0, 1),  # orthoplex
        (6, 4, 0, 1),  # part of one
        (9, 7, 0, 1),
    ],
)
def test_spherical_codes_have_the_known_cosine_and_distance_in_any_rotation(
    num_classes, dim, cosine, distance
):
    code = frames.spherical_code(num_classes, dim, jax.random.key(4))
    assert code.shape == (num_classes, dim)
    np.testing.assert_allclose(jnp.linalg.norm(code, axis=1), 1)
    scales = jnp.arange(1.0, num_classes + 1)[:, None]
    np.testing.assert_allclose(frames.largest_cosine(scales * code), cosine, atol=1e-14)
    np.testing.assert_allclose(frames.one_vs_rest_distance(scales * code), distance, atol=1e-12)


def test_no_random_code_is_better_than_a_spherical_code():
    codes = jax.random.normal(jax.random.key(5), (500, 5, 3))
    best = frames.largest_cosine(frames.spherical_code(5, 3))
    assert jax.vmap(frames.largest_cosine)(codes).min() > best


def test_one_vs_rest_distance_is_that_of_a_quadratic_program():
    rows = np.array(jax.random.normal(jax.random.key(6), (6, 3)))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def distance(k):
        others = np.delete(unit, k, axis=0)
        simplex = {"type": "eq", "fun": lambda x: x.sum() - 1}
        found = scipy.optimize.minimize(
            lambda x: np.square(x @ others - unit[k]).sum(),
            np.full(5, 0.2),
            bounds=[(0, 1)] * 5,
            constraints=simplex,
            options={"ftol": 1e-14},
        )
        return np.sqrt(found.fun)

    expected = min(map(distance, range(6)))
    assert expected > 0.1
    np.testing.assert_allclose(frames.one_vs_rest_distance(rows), expected, rtol=1e-6)


def test_a_vector_inside_the_hull_of_the_others_is_at_no_distance():
    rows = np.array([[1.0, 0], [0, 1.0], [-1.0, 0], [0, -1.0], [1.0, 1e-9]])
    assert frames.one_vs_rest_distance(rows) < 1e-8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: frames.simplex_etf(4, 2), "`dim`.*got 2.*at least 3"),
        (lambda: frames.simplex_etf(1, 2), "`num_classes`"),
        (lambda: frames.orthogonal_frame(4, 3), "`dim`.*at least 4"),
        (lambda: frames.distance_to_simplex_etf(jnp.zeros((3, 2))), "`gram`"),
        (lambda: frames.alignment(jnp.zeros((3, 2)), jnp.zeros((4, 2))), "`second`"),
        (lambda: frames.gram_distance(jnp.zeros((3, 3)), jnp.zeros((4, 4))), "`gram`"),
        (lambda: frames.spherical_code(8, 3), "`dim`.*got 3.*2 or at least 4 for 8 vectors"),
        (lambda: frames.spherical_code(3, 1), "`dim`.*got 1.*at least 2 for 3 vectors"),
        (lambda: frames.largest_cosine(jnp.eye(3, 2)), "`smallest norm of the rows`"),
        (lambda: frames.one_vs_rest_distance(np.eye(1)), "`number of rows`"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(InputError, match=message):
        call()
