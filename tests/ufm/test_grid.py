import dataclasses

import numpy as np
import pytest

from ncjax.checks import InputError
from ncjax.ufm.grid import problem_of
from tests.ufm.conftest import GRID


def test_arrays_may_list_the_values_of_a_grid():
    grid = dataclasses.replace(GRID, lambda_w=np.logspace(-3, -2, 3), num_classes=np.array([4]))
    assert grid.lambda_w == pytest.approx((1e-3, 10**-2.5, 1e-2))
    assert grid.num_classes == (4,)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": ("cross",)}, "`losses?`.*cross_entropy"),
        ({"lambda_w": ()}, "`lambda_w`.*empty"),
        ({"lambda_h": (1e-3, -1.0)}, "`lambda_h`.*-1"),
        ({"gamma": (-1.0,)}, "`gamma`"),
        ({"ranks": (7,)}, "`ranks`.*4"),
        ({"imbalance": (0.5,)}, "`imbalance`.*0.5"),
        ({"aims": ("minimum",)}, "`aims`.*'minimizer'"),
        ({"starts": 0}, "`starts`"),
        ({"num_classes": (1,), "ranks": ()}, "`num_classes`"),
        ({"losses": "mse"}, "`losses`.*list.*Write"),
        ({"lambda_w": 1e-3}, "`lambda_w`.*list"),
        ({"lambda_w": ("a",)}, "`lambda_w`.*number"),
    ],
)
def test_bad_grids_are_refused_by_name(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(GRID, **changes)


def test_every_loss_has_the_product_of_all_that_concerns_it_and_no_more():
    grid = dataclasses.replace(
        GRID, samples_per_class=(3, 5), imbalance=(1.0, 2.0), gamma=(1.0, 2.0)
    )
    counts = {loss: 0 for loss in grid.losses}
    for shape, items in grid.programs():
        counts[shape.loss] += len(items["start"])
        assert {len(values) for values in items.values()} == {len(items["start"])}
    common = 2 * 2 * (2 * 1 * 2) * 5 * 2  # sizes, lambdas, ranks and starts
    own = {"cross_entropy": 1, "label_smoothing": 1, "focal": 2, "mse": 2}
    assert counts == {loss: common * number for loss, number in own.items()}


def test_the_sizes_of_a_convex_loss_share_a_program_and_those_of_others_do_not():
    grid = dataclasses.replace(GRID, samples_per_class=(3, 5, 9), dense_limit=0)
    shapes = [shape for shape, _ in grid.programs()]
    for loss in ("cross_entropy", "label_smoothing", "mse"):
        assert [s.samples_per_class for s in shapes if s.loss == loss] == [None]
    assert [s.samples_per_class for s in shapes if s.loss == "focal"] == [3, 5, 9]
    # A problem small enough for a dense matrix needs its sizes.
    dense = dataclasses.replace(grid, losses=("mse",), dense_limit=100)
    assert [shape.samples_per_class for shape, _ in dense.programs()] == [3, None]


@pytest.mark.parametrize("loss", ["focal", "cross_entropy"])  # static sizes and traced ones
def test_imbalance_divides_the_samples_of_the_second_half_of_the_classes(loss):
    grid = dataclasses.replace(
        GRID,
        losses=(loss,),
        num_classes=(5,),
        samples_per_class=(9,),
        imbalance=(1.0, 2.0, 100.0),
        dense_limit=0,
    )
    found = set()
    for shape, items in grid.programs():
        for place in range(len(items["start"])):
            problem = problem_of(shape, {name: values[place] for name, values in items.items()})
            found.add(tuple(problem.class_sizes.tolist()))
            assert problem.balanced == shape.balanced
    assert found == {(9,) * 5, (9, 9, 9, 4, 4), (9, 9, 9, 1, 1)}
