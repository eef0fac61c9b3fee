import jax
import numpy as np
import pytest

from ncjax.data.augmentation import augment

keys = jax.random.split(jax.random.key(0), 64)
images = np.random.default_rng(0).integers(1, 256, (64, 16, 16, 3)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["crop", "crop_flip"])
def test_images_are_moved_by_up_to_an_eighth_of_their_side_and_mirrored_half_of_the_time(kind):
    found = np.asarray(augment(keys, images, kind))
    assert found.dtype == np.uint8
    moves, flips = set(), 0
    for image, seen in zip(images, found, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
        hits = [
            (i, j, flipped)
            for i in range(5)
            for j in range(5)
            for flipped in (False, True)
            if np.array_equal(seen, padded[i : i + 16, j : j + 16][:, :: -1 if flipped else 1])
        ]
        assert len(hits) == 1
        moves.add(hits[0][:2])
        flips += hits[0][2]
    assert len(moves) > 15
    assert (flips == 0) if kind == "crop" else (16 < flips < 48)


def test_an_image_fares_alike_whatever_stands_beside_it():
    alone = augment(keys[5:6], images[5:6], "crop_flip")
    np.testing.assert_array_equal(alone[0], augment(keys, images, "crop_flip")[5])
    np.testing.assert_array_equal(augment(keys, images, "none"), images)
    flat = augment(keys, images[..., 0], "crop_flip")
    np.testing.assert_array_equal(flat, augment(keys, images, "crop_flip")[..., 0])
