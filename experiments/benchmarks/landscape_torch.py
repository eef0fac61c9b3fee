"""Section of `bench_landscape`: a loop of momentum steps in PyTorch, and its dense Hessian."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.curvature_networks import Row, elapsed, peer, shortest
from experiments.benchmarks.landscape_points import DECAYS, SIZE, model, ours, starts_of_peers
from ncjax import ufm

RATES = (10.0, 20.0, 30.0, 50.0, 5.0, 3.0)
CAP = 10_000
"""Momentum steps at most; what has not arrived by then is extrapolated."""


def torch_section() -> list[Row]:
    """Momentum steps in a loop, each rank at its best rate, and the dense Hessian's spectrum."""
    torch = peer("torch")
    target = 1e-9 * float(model("cross_entropy").force)
    starts, ranks = starts_of_peers(SIZE.num_classes)
    rows = []
    for (name, loop), threads in itertools.product(LOOPS.items(), (1, 2)):
        torch.set_num_threads(threads)
        start = jax.tree.map(lambda leaf: np.array(leaf[-1]), starts)
        seconds = (
            shortest({"": lambda loop=loop, start=start: list(loop(start, RATES[0], 200))}, 3)[""]
            / 200
        )
        tool = {"tool": f"momentum, {name}", "threads": threads}
        rows.append({**tool, "a step, ms": 1e3 * seconds, "loop": loop})
    fastest = min(rows, key=lambda row: row["a step, ms"])
    torch.set_num_threads(fastest["threads"])
    runs = [descent(fastest["loop"], starts, i, int(rank), target) for i, rank in enumerate(ranks)]
    steps, reached, seconds = (np.array(column) for column in zip(*runs, strict=True))
    fastest |= {
        "a point, ms": 1e3 * seconds.mean(),
        "steps": steps.mean(),
        "arrived within the cap": float((reached <= target).mean()),
        "largest gradient": reached.max(),
        "this / ours": seconds.mean() / ours(),
    }
    torch.set_num_threads(2)
    dense = dense_spectrum()
    rows += [
        {"tool": "torch.func.hessian", "threads": 2, "a point, ms": 1e3 * dense[0]},
        {"tool": "torch.linalg.eigvalsh", "threads": 2, "a point, ms": 1e3 * dense[1]},
    ]
    whole = seconds.mean() + sum(dense)
    rows.append(
        {
            "tool": "the fastest loop, Hessian, eigvalsh",
            "a point, ms": 1e3 * whole,
            "this / ours": whole / ours(),
        }
    )
    return [{name: value for name, value in row.items() if name != "loop"} for row in rows]


def descent(
    loop: Callable[..., Iterator[float]], starts: ufm.Params, index: int, rank: int, target: float
) -> tuple[int, float, float]:
    """Steps, gradient norm reached and seconds at the best rate, in `rank` dimensions alone."""
    W, H, b = (np.array(leaf[index]) for leaf in (starts.W, starts.H, starts.b))
    start = ufm.Params(W[:, :rank], H[:, :rank], b)
    best = (CAP, math.inf, math.inf)
    for rate in RATES:
        norms = []
        started = time.perf_counter()
        for norm in loop(start, rate, CAP):
            norms.append(norm)
            if not norm > target or elapsed(started) > best[2]:
                break
        seconds = elapsed(started)
        if seconds > best[2] or math.isnan(norm):
            continue
        if norm > target:  # on, at the linear rate of the second half
            half = norms[len(norms) // 2]
            if not norm < half:
                continue
            seconds *= 1 + math.log(norm / target) / math.log(half / norm) / 2
        best = min(best, (10 * len(norms), norm, seconds), key=lambda run: run[2])
    return best


def closed_form(start: ufm.Params, rate: float, steps: int) -> Iterator[float]:
    """Yields the gradient norm every 10 steps; the gradient by hand, all in place."""
    torch = peer("torch")
    W, H, b = (torch.tensor(leaf) for leaf in (start.W, start.H, start.b))
    W, H = W.contiguous(), H.contiguous()
    velocity = [torch.zeros_like(x) for x in (W, H, b)]
    labels = torch.tensor(model("cross_entropy").labels).long()
    share = torch.nn.functional.one_hot(labels, len(W)).to(W.dtype) / len(H)
    of_W, of_H, of_b = (DECAYS[name] for name in ("lambda_w", "lambda_h", "lambda_b"))
    for step in range(steps):
        G = torch.softmax(torch.addmm(b, H, W.T), 1).div_(len(H)).sub_(share)
        slopes = (
            torch.addmm(W, G.T, H, beta=of_W),
            torch.addmm(H, G, W, beta=of_H),
            G.sum(0).add_(b, alpha=of_b),
        )
        if step % 10 == 0:
            yield math.sqrt(sum(slope.square().sum().item() for slope in slopes))
        for x, v, slope in zip((W, H, b), velocity, slopes, strict=True):
            v.mul_(0.9).add_(slope)
            x.sub_(v, alpha=rate)


def automatic(start: ufm.Params, rate: float, steps: int) -> Iterator[float]:
    """The same by autograd and `torch.optim.SGD`."""
    torch = peer("torch")
    params = [torch.tensor(leaf).requires_grad_() for leaf in (start.W, start.H, start.b)]
    decays = [DECAYS[name] for name in ("lambda_w", "lambda_h", "lambda_b")]
    groups = [{"params": p, "weight_decay": d} for p, d in zip(params, decays, strict=True)]
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9)
    labels = torch.tensor(model("cross_entropy").labels).long()
    W, H, b = params
    for step in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(torch.addmm(b, H, W.T), labels).backward()
        if step % 10 == 0:
            slopes = (p.grad + d * p.detach() for p, d in zip(params, decays, strict=True))
            yield math.sqrt(sum(slope.square().sum().item() for slope in slopes))
        optimizer.step()


LOOPS = {"gradient by hand": closed_form, "autograd, torch.optim.SGD": automatic}


def dense_spectrum() -> tuple[float, float]:
    """Seconds of one dense Hessian and of its eigenvalues."""
    torch = peer("torch")
    problem = model("cross_entropy")
    K, d, N = problem.num_classes, problem.feature_dim, problem.num_samples
    labels = torch.tensor(problem.labels).long()
    decays = [DECAYS[name] for name in ("lambda_w", "lambda_h", "lambda_b")]

    def objective(flat: Any) -> Any:
        parts = flat.split((K * d, N * d, K))
        W, H, b = parts
        fit = torch.nn.functional.cross_entropy(H.view(N, d) @ W.view(K, d).T + b, labels)
        return fit + sum(c / 2 * (p * p).sum() for c, p in zip(decays, parts, strict=True))

    generator = torch.Generator().manual_seed(0)
    point = torch.randn(K * d + N * d + K, generator=generator, dtype=torch.float64)
    started = time.perf_counter()
    hessian = torch.func.hessian(objective)(point)
    of_hessian = elapsed(started)
    started = time.perf_counter()
    torch.linalg.eigvalsh(hessian)
    return of_hessian, elapsed(started)
