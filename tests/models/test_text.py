import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax.models import text

rng = np.random.default_rng(0)
tokens = rng.integers(1, 9, (6, 5)).astype(np.int32)
tokens[2:, 3:] = 0
relaxed = np.asarray(jax.nn.one_hot(tokens, 9))


@pytest.mark.parametrize("reader", ["bag", "convolution"])
def test_certain_distributions_of_words_read_as_the_words(reader):
    model = text.TextClassifier(3, 9, dim=4, widths=(7, 5), reader=reader)
    (logits, features), variables = model.init_with_output(jax.random.key(0), tokens, train=False)
    assert logits.shape == (6, 3)
    assert features.shape == (6, 5)
    np.testing.assert_allclose(model.apply(variables, relaxed)[0], logits, rtol=1e-4, atol=1e-6)
    slope = jax.grad(lambda x: model.apply(variables, x)[0][:, 0].sum())(jnp.asarray(relaxed))
    assert np.abs(slope).max() > 0


@pytest.mark.parametrize("reader", ["bag", "convolution"])
def test_padding_says_nothing(reader):
    model = text.TextClassifier(3, 9, dim=4, widths=(5,), reader=reader)
    variables = model.init(jax.random.key(0), tokens)
    longer = np.pad(tokens, ((0, 0), (0, 4)))
    logits, padded = (model.apply(variables, x)[0] for x in (tokens, longer))
    np.testing.assert_allclose(padded, logits, rtol=1e-4, atol=1e-6)
    nothing = model.apply(variables, np.zeros((1, 5), np.int32))[0]
    assert np.isfinite(nothing).all()


def test_a_bag_does_not_mind_the_order_and_a_convolution_does():
    swapped = tokens[:2, ::-1]
    for reader, minds in (("bag", False), ("convolution", True)):
        model = text.TextClassifier(3, 9, dim=4, widths=(5,), reader=reader)
        variables = model.init(jax.random.key(0), tokens)
        off = np.abs(model.apply(variables, swapped)[0] - model.apply(variables, tokens[:2])[0])
        assert (off.max() > 1e-3) == minds


def test_an_autoencoder_of_texts_goes_to_points_and_back_to_logits_of_words():
    model = text.TextAutoencoder(3, 9, length=5, dim=4, width=8)
    (outputs, z), variables = model.init_with_output(jax.random.key(0), tokens)
    assert z.shape == (6, 4)
    logits = model.apply(variables, z, method="decode")
    assert logits.shape == (6, 5, 9)
    np.testing.assert_allclose(outputs, logits.reshape(6, -1), rtol=1e-5)
    of_relaxed = model.apply(variables, relaxed, method="encode")
    np.testing.assert_allclose(of_relaxed, z, rtol=1e-4, atol=1e-5)


def test_a_product_with_windows_is_a_convolution():
    x, kernel = rng.normal(size=(2, 6, 3)), rng.normal(size=(3, 3, 4))
    found = np.asarray(text.windows(x.astype(np.float32))) @ kernel.reshape(9, 4)
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    taps = (padded[:, tap : tap + 6] @ kernel[tap] for tap in range(3))
    np.testing.assert_allclose(found, sum(taps), rtol=1e-4, atol=1e-5)
