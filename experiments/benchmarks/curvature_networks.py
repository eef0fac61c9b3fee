"""The networks of `bench_curvature`, here and in torch, and its tools."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import itertools
import time
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from ncjax import curvature, data, losses

Row = dict[str, Any]
DISTRIBUTIONS = {
    "torch": "torch",
    "pyhessian": "PyHessian",
    "curvlinops": "curvlinops-for-pytorch",
    "matfree": "matfree",
}

MORE_SAMPLES = 5000
"""The digits, repeated, as a second number of samples."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A ReLU network at a point, its data (images `[N, D]` and labels) and a start vector."""

    params: list[dict[str, jax.Array]]
    data: tuple[jax.Array, jax.Array]
    start: list[dict[str, jax.Array]]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))

    @property
    def samples(self) -> int:
        """N."""
        return len(self.data[1])

    @property
    def flat_start(self) -> jax.Array:
        """The start vector, `[p]`."""
        return ravel_pytree(self.start)[0]

    def loss(self) -> float:
        """Mean cross entropy."""
        return float(loss(self.params, *self.data))

    def accuracy(self) -> float:
        """On the training data."""
        return float((logits(self.params, self.data[0]).argmax(1) == self.data[1]).mean())


def logits(params: list[dict[str, jax.Array]], images: jax.Array) -> jax.Array:
    """Of the network, `[N, K]`."""
    hidden = images
    for layer in params[:-1]:
        hidden = jax.nn.relu(hidden @ layer["kernel"] + layer["bias"])
    return hidden @ params[-1]["kernel"] + params[-1]["bias"]


def loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross entropy."""
    return losses.cross_entropy(logits(params, images), labels).mean()


def untrained_network(widths: Sequence[int], samples: int | None) -> Network:
    """A Gaussian network on the digits, repeated to a number of samples (as they are if None)."""
    digits = data.load("digits")
    images = digits.images.reshape(len(digits.images), -1)
    samples = len(images) if samples is None else samples
    images, labels = (np.resize(a, (samples, *a.shape[1:])) for a in (images, digits.labels))
    shapes = list(itertools.pairwise(widths))
    keys = jax.random.split(jax.random.key(0), len(shapes))
    params = [
        {"bias": jnp.zeros(n), "kernel": (2 / m) ** 0.5 * jax.random.normal(key, (m, n))}
        for key, (m, n) in zip(keys, shapes, strict=True)
    ]
    flat, unravel = ravel_pytree(params)
    start = unravel(jax.random.normal(jax.random.key(1), flat.shape))
    return Network(params, (jnp.asarray(images), jnp.asarray(labels)), start)


def trained_network(widths: Sequence[int], steps: int) -> Network:
    """The same after some Adam steps on batches of 128."""
    network = untrained_network(widths, None)
    images, labels = network.data
    optimizer = optax.adam(1e-3)

    @jax.jit
    def trained(params: Any) -> Any:
        def step(state: tuple, key: jax.Array) -> tuple[tuple, None]:
            params, moments = state
            batch = jax.random.randint(key, (128,), 0, len(images))
            gradient = jax.grad(loss)(params, images[batch], labels[batch])
            updates, moments = optimizer.update(gradient, moments)
            return (optax.apply_updates(params, updates), moments), None

        keys = jax.random.split(jax.random.key(2), steps)
        return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]

    return dataclasses.replace(network, params=trained(network.params))


def hessian_product(params: Any, *batch: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """The Hessian's product of flat vectors, the gradient linearised once."""
    _, unravel = ravel_pytree(params)
    product = jax.linearize(lambda p: jax.grad(loss)(p, *batch), params)[1]
    return lambda vector: ravel_pytree(product(unravel(vector)))[0]


def jax_functions(network: Network) -> dict[str, Callable]:
    """Compiled: a gradient, one `curvature.hvp`, and `count` products of an `Operator` in turn."""

    @jax.jit
    def gradient(params: Any, *batch: jax.Array) -> Any:
        return jax.grad(loss)(params, *batch)

    @jax.jit
    def single(params: Any, vector: Any, *batch: jax.Array) -> Any:
        return curvature.hvp(lambda p: loss(p, *batch), params, vector)

    @jax.jit
    def in_turn(count: int, params: Any, vector: Any, *batch: jax.Array) -> Any:
        hessian = curvature.hessian(loss, *batch)
        product = hessian.setup(params, hessian.args).product

        def step(_: Any, vector: Any) -> Any:
            image = product(vector)
            norm = curvature.global_norm(image)
            return jax.tree.map(lambda leaf: leaf / norm, image)

        return jax.lax.fori_loop(0, count, step, vector)

    params, start, batch = network.params, network.start, network.data
    return {
        "gradient": lambda: gradient(params, *batch),
        "one": lambda: single(params, start, *batch),
        "1 in turn": lambda: in_turn(1, params, start, *batch),
        "6 in turn": lambda: in_turn(6, params, start, *batch),
    }


def in_float64(tree: Any) -> Any:
    """Floating-point leaves in float64, under `jax.enable_x64`."""

    def wide(leaf: jax.Array) -> jax.Array:
        array = np.asarray(leaf)
        return jnp.asarray(array, np.float64 if array.dtype == np.float32 else array.dtype)

    return jax.tree.map(wide, tree)


class TorchTwin:
    """The same network, data and vectors in torch, and the torch peers' operators on it."""

    def __init__(self, network: Network):
        torch = peer("torch")
        self.torch, self.network = torch, network
        modules = []
        for layer in network.params:
            linear = torch.nn.Linear(*layer["kernel"].shape)
            linear.weight.data = torch.tensor(np.asarray(layer["kernel"]).T.copy())
            linear.bias.data = torch.tensor(np.asarray(layer["bias"]).copy())
            modules += [linear, torch.nn.ReLU()]
        self.model = torch.nn.Sequential(*modules[:-1])
        self.params = list(self.model.parameters())
        self.loss = torch.nn.CrossEntropyLoss()
        images, labels = (np.asarray(array) for array in network.data)
        self.data = (torch.tensor(images), torch.tensor(labels).long())
        ours, theirs = self.loss(self.model(self.data[0]), self.data[1]).item(), network.loss()
        if abs(ours - theirs) > 1e-5 * max(1.0, abs(theirs)):
            raise RuntimeError(f"the twin's loss is {ours}, not {theirs}")
        self.threads = 1

    def gradient(self) -> Any:
        """Of the mean loss."""
        return self.torch.autograd.grad(
            self.loss(self.model(self.data[0]), self.data[1]), self.params
        )

    def pyhessian_hessian(self) -> Any:
        """PyHessian's object; the graph of the gradient is built once, here."""
        self.model.zero_grad()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of create_graph
            return peer("pyhessian").hessian(self.model, self.loss, data=self.data, cuda=False)

    def pyhessian_product(self) -> Callable[[], Any]:
        """A call that makes one product with PyHessian."""
        hessian, vector = self.pyhessian_hessian(), self.random_like()
        product = peer("pyhessian.utils").hessian_vector_product
        return lambda: product(hessian.gradsH, hessian.params, vector)

    def curvlinops_operator(self) -> Any:
        """curvlinops' operator; its check for determinism, 2 products and more, is left out."""
        return peer("curvlinops").HessianLinearOperator(
            self.model,
            self.loss,
            self.params,
            [self.data],
            check_deterministic=False,
            num_data=len(self.data[1]),
        )

    def curvlinops_product(self) -> Callable[[], Any]:
        """A call that makes one product with curvlinops."""
        operator = self.curvlinops_operator()
        vector = self.torch.randn(self.network.size)
        return lambda: operator @ vector

    def choose_threads(self, call: Callable[[], Any]) -> None:
        """Sets the faster of one thread and two."""
        seconds = {}
        for count in (1, 2):
            self.use_threads(count)
            seconds[count] = shortest({"": call}, rounds=4)[""]
        self.use_threads(min(seconds, key=seconds.__getitem__))

    def use_threads(self, count: int) -> None:
        """Sets the number of torch's threads."""
        self.threads = count
        self.torch.set_num_threads(count)

    def random_like(self) -> list[Any]:
        """A random vector as a list of tensors."""
        return [self.torch.randn_like(param) for param in self.params]

    def flat(self, tree: list[dict[str, jax.Array]]) -> np.ndarray:
        """A pytree like the network's as a vector in torch's order: kernels transposed, first."""
        parts = [part for layer in tree for part in (np.asarray(layer["kernel"]).T, layer["bias"])]
        return np.concatenate([np.ravel(part) for part in parts])

    def as_rows(self, rows: np.ndarray) -> np.ndarray:
        """Rows in torch's order as rows in that of the JAX network."""
        found, at = [], 0
        for layer in self.network.params:
            m, n = layer["kernel"].shape
            kernel = rows[:, at : at + m * n].reshape(len(rows), n, m).transpose(0, 2, 1)
            bias = rows[:, at + m * n : at + m * n + n]
            found += [bias, kernel.reshape(len(rows), -1)]
            at += m * n + n
        return np.concatenate(found, axis=1)


def peer(package: str) -> ModuleType:
    """Imports a peer.

    Raises:
        ModuleNotFoundError: it is not installed; names the extra.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        remedy = f"this benchmark compares with {package}: pip install 'ncjax[bench]'"
        raise ModuleNotFoundError(remedy) from error


def elapsed(since: float) -> float:
    """Seconds since a reading of `time.perf_counter`."""
    return time.perf_counter() - since


def shortest(
    calls: dict[Any, Callable[[], Any]], rounds: int, warm: bool = True
) -> dict[Any, float]:
    """The shortest time of each call; they take turns, so that a busy moment hits all alike.

    Args:
        calls: functions of no argument; what they return is waited for.
        rounds: times each is called.
        warm: call each once before, unmeasured.
    """
    times: dict[Any, list[float]] = {name: [] for name in calls}
    for call in calls.values() if warm else ():
        jax.block_until_ready(call())
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(elapsed(started))
    return {name: min(seconds) for name, seconds in times.items()}


def markdown(rows: list[Row]) -> str:
    """A table of all keys that occur."""

    def cell(value: Any) -> str:
        if isinstance(value, int):
            return f"{value:,}"
        return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)

    keys = list(dict.fromkeys(key for row in rows for key in row if key != "value"))
    lines = [keys, ["---"] * len(keys), *[[cell(row.get(key)) for key in keys] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
