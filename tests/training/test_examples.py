import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import data
from ncjax.checks import InputError
from ncjax.data import Corruption
from ncjax.training.examples import Batches, Store

corruption = Corruption(per_class=20, imbalance=4, noise=0.3, validation=5, unlabelled=True)
dataset = data.load("digits").corrupt(corruption)
store = Store.of(dataset, dataset.unlabelled)


def test_each_part_is_found_in_its_rows_and_the_training_set_comes_first():
    of = {
        "train": (dataset.images, dataset.labels, dataset.clean_labels),
        "validation": (dataset.validation_images, *[dataset.validation_labels] * 2),
        "test": (dataset.test_images, *[dataset.test_labels] * 2),
    }
    for part, arrays in of.items():
        rows = np.array(store.parts[part])
        held = (store.images, store.labels, store.clean_labels)
        for array, expected in zip(held, arrays, strict=True):
            np.testing.assert_array_equal(array[rows], expected)
    np.testing.assert_array_equal(store.images[store.parts["unlabelled"]], dataset.unlabelled)
    assert store.parts["unlabelled"].start == len(dataset.labels)
    assert store.parts["clean"] == store.parts["train"] == range(len(dataset.labels))


@pytest.mark.parametrize(("shards", "most"), [(1, 1024), (1, 50), (3, 64), (4, 7)])
def test_batches_of_all_parts_have_one_shape_and_hold_each_row_once(shards, most):
    shapes = set()
    for part in ("train", "clean", "validation", "test"):
        rows, mask, count = store.batches(part, shards, most)
        assert rows.shape[0] == shards
        assert rows.shape[2] <= most
        assert sorted(rows[mask]) == list(store.parts[part])
        assert mask[:, count - 1].any()
        assert not mask[:, count:].any()
        shapes.add(rows.shape)
    assert len(shapes) == 1


def test_a_fold_sees_the_rows_of_a_part():
    rows, mask, count = store.batches("validation", 1, 7)
    share = Batches(store.images, store.labels, store.clean_labels, rows[0], mask[0], count)

    def add(total, _images, y, _clean, valid):
        return total + jnp.where(valid, y, 0).sum()

    right = share.fold(add, jnp.int32(0))
    assert right == dataset.validation_labels.sum()


def test_an_empty_part_is_refused():
    bare = Store.of(data.load("digits"))
    assert "unlabelled" not in bare.parts
    with pytest.raises(InputError, match="part.*validation.*empty"):
        bare.batches("validation", 1, 10)
