import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from ncjax import tgt
from ncjax.checks import InputError
from ncjax.tgt import protocols
from tests.tgt.linear import Linear, Spelled, labeler, read, texts, x


class Nan(Linear):
    def decode(self, z):
        return super().decode(z) * jnp.nan


class Longer(Linear):
    def decode(self, z):
        return jnp.ones((len(z), 5))


class Narrow(Linear):
    def encode(self, x):
        return x @ jnp.ones((3, 2))


class Wider(Linear):
    def encode(self, x):
        return jnp.ones((len(x), 3))


@dataclasses.dataclass(frozen=True)
class Conditional(Linear):
    labels: object = None

    def given(self, labels):
        return dataclasses.replace(self, labels=labels)


@pytest.mark.parametrize(
    ("guide", "message"),
    [
        (tgt.Guide(Linear(), lambda x: labeler(x)[:, :2]), "`labeler`.*3 classes"),
        (tgt.Guide(Linear(), lambda x: labeler(x) * jnp.nan), "`labeler`.*NaN"),
        (tgt.Guide(Linear(np.array([1.0, 0.0])), labeler), r"coordinates \[1\] do not vary"),
        (tgt.Guide(Linear(np.array([1.0, np.nan])), labeler), "`scale`"),
        (tgt.Guide(Linear(), lambda x: x @ jnp.ones((5, 3))), "`labeler`.*fails on examples of"),
        (tgt.Guide(Narrow(), labeler), r"`generator`.*fails on examples of shape \(4,\)"),
        (tgt.Guide(Wider(), labeler), r"encodes shape \(8, 3\)"),
        (tgt.Guide(Longer(), labeler), r"decodes shape \(8, 5\)"),
        (tgt.Guide(Nan(), labeler), "decodes.*NaN"),
    ],
)
def test_teachers_that_do_not_fit_are_refused(guide, message):
    with pytest.raises(InputError, match=message):
        tgt.check_guide(guide, x, 3)


def test_teachers_that_fit_are_taken():
    assert isinstance(Linear(), tgt.Generator)
    for generator in (None, Linear(), Conditional()):
        tgt.check_guide(tgt.Guide(generator, labeler), x, 3)


def test_conditional_generators_are_told_the_classes():
    labels = np.arange(3)
    assert protocols.given(Conditional(), labels).labels is labels
    assert protocols.given(Conditional(), None).labels is None
    plain = Linear()
    assert protocols.given(plain, labels) is plain


def test_probabilities_make_a_labeler():
    logits = tgt.from_probabilities(lambda x: softmax(np.asarray(labeler(x)), axis=1))(x)
    np.testing.assert_allclose(softmax(logits, axis=1), softmax(labeler(x), axis=1), rtol=1e-4)
    assert np.isfinite(tgt.from_probabilities(np.zeros_like)(x)).all()


class Soft(Spelled):
    """One that does not come back to texts."""

    harden = None


def test_generators_of_texts_come_back_to_texts():
    tgt.check_guide(tgt.Guide(Spelled(), read), texts, 3)
    with pytest.raises(InputError, match=r"decodes shape \(8, 3, 5\)"):
        tgt.check_guide(tgt.Guide(Soft(), read), texts, 3)
