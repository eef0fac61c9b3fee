import jax
import numpy as np
import pytest

from ncjax.data.augmentation import _cut, augment, strongly_augmented

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


def test_strong_views_are_turned_and_cut_images_each_by_its_own_key():
    smooth = np.zeros((64, 16, 16, 3), np.uint8)
    smooth[:, 4:12, 6:10] = 200
    found = np.asarray(strongly_augmented(keys, smooth))
    assert found.dtype == np.uint8
    assert len(np.unique(found.reshape(64, -1), axis=0)) == 64
    np.testing.assert_array_equal(found[5], strongly_augmented(keys[5:6], smooth[5:6])[0])
    pairs = zip(smooth.reshape(64, -1), found.reshape(64, -1), strict=True)
    correlation = [np.corrcoef(*pair)[0, 1] for pair in pairs]
    assert 0.2 < np.mean(correlation) < 0.8
    grey = strongly_augmented(keys, smooth[..., 0].astype(np.float32) / 255)
    assert (grey.shape, grey.dtype) == ((64, 16, 16), np.float32)


def test_the_square_cut_out_is_half_a_side_wide_and_may_reach_beyond_the_border():
    image = np.random.default_rng(1).normal(size=(16, 16, 1)).astype(np.float32)
    gone = []
    for key in keys:
        cut = np.asarray(_cut(key, jax.numpy.asarray(image))) != image
        assert cut.any(axis=(1, 2)).sum() * cut.any(axis=(0, 2)).sum() == cut.sum()
        gone.append(cut.sum())
    assert max(gone) == 64
    assert min(gone) < 64
