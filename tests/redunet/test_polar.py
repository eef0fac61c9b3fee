import numpy as np
import pytest

from ncjax.checks import InputError
from ncjax.redunet import polar

IMAGES = np.random.default_rng(0).normal(size=(2, 9, 9)).astype("f4")


def test_a_quarter_turn_is_a_shift_by_a_quarter_of_the_angles():
    rays = polar(IMAGES, angles=12, radii=5)
    assert rays.shape == (2, 12, 5)
    turned = polar(np.rot90(IMAGES, axes=(2, 1)), angles=12, radii=5)
    np.testing.assert_allclose(turned, np.roll(rays, 3, axis=1), atol=1e-5)


def test_rays_go_from_the_centre_to_the_edge():
    rays = polar(IMAGES, angles=4, radii=5)
    np.testing.assert_allclose(rays[:, 0], IMAGES[:, 4, 4:], atol=1e-5)
    np.testing.assert_allclose(rays[:, 1], IMAGES[:, 4:, 4], atol=1e-5)


def test_images_may_be_integers():
    images = np.arange(2 * 9 * 9, dtype=np.uint8).reshape(2, 9, 9)
    np.testing.assert_array_equal(polar(images, 8, 5), polar(images.astype("f4"), 8, 5))
    with pytest.raises(InputError, match=r"`images`.*NaN"):
        polar(np.full((1, 9, 9), np.nan, "f4"))


@pytest.mark.usefixtures("no_type_checks")
def test_what_is_refused():
    with pytest.raises(InputError, match=r"`images`.*\[N, H, W\]"):
        polar(IMAGES[0])
    with pytest.raises(InputError, match="`radii`"):
        polar(IMAGES, radii=0)
