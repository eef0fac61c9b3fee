"""A few steps on twelve samples, by the library and by hand."""

import jax
import numpy as np

from ncjax import models
from ncjax.parallel import AXIS
from ncjax.training import TrainConfig, steps
from ncjax.training.members import member_of

rng = np.random.default_rng(0)
images = rng.normal(size=(12, 4)).astype(np.float32)
labels = np.arange(12) % 3
PLAIN = TrainConfig(
    widths=(6,),
    batch_size=6,
    epochs=4,
    learning_rate=0.1,
    momentum=0.0,
    weight_decay=0.0,
    schedule="constant",
)


def advanced(config, shards=1, count=2, images=images, numbers=None, **of_task):
    """State before and after some steps."""
    task = steps.Task(
        config=config,
        model=config.model(3, AXIS, shape=images.shape[1:]),
        losses=(config.loss,),
        inputs=lambda x: 2 * x,
        numbers=np.arange(12) if numbers is None else numbers,
        unlabelled=len(images) - 12,
        **of_task,
    )
    member = member_of(config, [config])
    state = steps.init_state(task, member, images[:1])
    epochs = [steps.batch_rows(12, 6, epoch, config.seed, shards) for epoch in range(4)]
    rows = np.concatenate(epochs, axis=1)
    advance = jax.vmap(
        steps.make_advance(task), (None, None, None, None, 0, None), None, axis_name=AXIS
    )
    return state, *jax.jit(advance)(member, state, images, labels, rows, count), rows


def by_hand(state, rows, objective, rate=0.1, model=None):
    """The same by plain gradient descent."""
    model = models.MLP(3, widths=(6,)) if model is None else model
    rest = dict(state.variables)
    params = rest.pop("params")
    for chosen in rows:

        def total(params, rest=rest, chosen=chosen):
            (logits, features), updated = model.apply(
                {"params": params, **rest}, 2 * images[chosen], train=True, mutable=list(rest)
            )
            return objective(params, logits, features, labels[chosen]), updated

        gradient, rest = jax.jit(jax.grad(total, has_aux=True))(params)
        params = jax.tree.map(lambda p, g: p - rate * g, params, gradient)
    return {"params": params, **rest}


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), a, b)
