import jax
import numpy as np
import pytest

from ncjax import checks


def test_the_error_names_argument_what_came_what_is_accepted_and_the_remedy():
    error = checks.reject("epochs", -1, "positive", "Raise it.")
    assert str(error) == "`epochs`: got -1, but it must be positive. Raise it."
    assert isinstance(error, ValueError)


def test_values_are_checked_where_concrete_and_pass_where_traced():
    with pytest.raises(checks.InputError):
        checks.check_range("x", -1.0, 0.0)
    jax.jit(lambda x: checks.check_range("x", x, 0.0))(-1.0)
    with pytest.raises(checks.InputError, match=r"NaN or infinite \(the first at \(1,\)\)"):
        checks.check_finite("x", np.array([0.0, np.inf]))
    jax.jit(lambda x: checks.check_finite("x", x))(np.nan)


@pytest.mark.parametrize("value", [True, 1.0, "3", 0])
def test_counts_are_integers_of_at_least_the_bound(value):
    with pytest.raises(checks.InputError, match="`n`"):
        checks.check_count("n", value, 1)
    checks.check_count("n", np.int64(2), 1)


def test_the_range_is_open_or_closed_below_and_open_above():
    checks.check_range("x", 0.0, 0.0, 1.0)
    with pytest.raises(checks.InputError, match="greater than 0"):
        checks.check_range("x", 0.0, 0.0, closed=False)
    with pytest.raises(checks.InputError, match="less than 1"):
        checks.check_range("x", 1.0, 0.0, 1.0)
    with pytest.raises(checks.InputError, match="finite"):
        checks.check_range("x", np.inf, 0.0)
