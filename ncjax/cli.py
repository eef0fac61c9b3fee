"""The `ncjax` command: thin and typed; each command is a function of the library."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import jax
import pandas as pd
import tyro

from ncjax import checks, data, measure, parallel, plots, spectrum, training, ufm

_Unprefixed = tyro.conf.arg(name="")


def landscape(
    grid: Annotated[ufm.Grid, _Unprefixed],
    run: Path = Path("runs/landscape"),
    from_: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    chunk: int | None = None,
    memory: float = 0.25,
    search: Literal["float64", "float32"] = "float64",
    backend: parallel.Backend = "shard_map",
) -> None:
    """Sweep unconstrained feature models: solve, certify and tabulate every critical point.

    Everything listed is combined with everything else, for each loss. Interrupted, the same
    command goes on where it stopped.

    Args:
        grid: what to sweep.
        run: folder for the table (Parquet parts under points/) and the figure.
        from_: only make the table and figure of this sweep's folder again.
        chunk: points in one compiled call; by default as many as memory holds.
        memory: GiB for the working arrays of a call.
        search: float32 for accelerators without float64; points are polished on the CPU.
        backend: how devices are used.
    """
    if from_ is None:
        parallel.use_all_cores()
        print(f"writing to {run}")
        settings = {"chunk": chunk, "memory": memory, "search": search, "backend": backend}
        with jax.enable_x64(True):
            ufm.landscape(grid, run, **settings)
    else:
        run = from_
    table = ufm.read_landscape(run)
    print(ufm.summarize(table).to_string(index=False))
    figure = run / "figures" / "critical_points.png"
    figure.parent.mkdir(exist_ok=True)
    plots.critical_points(table, figure)
    print(f"figure: {figure}")


def train(
    config: Annotated[training.TrainConfig, _Unprefixed],
    run: Path = Path("runs/train"),
    backend: parallel.Backend = "pmap",
    writers: tuple[Literal["csv", "tensorboard"], ...] = (),
) -> None:
    """Train a network far past zero error and measure its collapse on the way.

    Interrupted, the same command goes on from the last checkpoint.

    Args:
        config: what to train.
        run: folder for config, metrics, checkpoints and figures.
        backend: how devices are used.
        writers: where measurements go besides metrics.jsonl.
    """
    print(f"writing to {run}")
    if config.method == "sop":
        print(config.sop_activation)
    table = training.train(config, run, backend=backend, writers=writers)
    columns = ["epoch", "loss", "accuracy", "test_accuracy", "nc1_pinv", "nc2_means"]
    columns += ["nc3_self_duality", "nc4_agreement", "clean_accuracy", "memorised", "sop_rate"]
    kept = [name for name in columns if name in table]
    print(table[kept].tail(5).to_string(index=False, float_format="{:.4g}".format))
    for figure in plots.training_figures({config.loss: run}, run / "figures"):
        print(f"figure: {figure}")
    if config.method == "sop":
        _report_issues(run, config)


def _report_issues(run: Path, config: training.TrainConfig) -> None:
    issues = pd.read_csv(run / training.ISSUES)
    dataset = data.load(config.dataset).corrupt(config.corruption)
    print(
        f"labels that look wrong: {issues['wrong'].mean():.1%}, listed in {run / training.ISSUES}"
    )
    print(issues.head(5).to_string(index=False, float_format="{:.4g}".format))
    if dataset.images.ndim >= 3:
        figure = run / "figures" / "label_issues.png"
        plots.label_issues(issues, dataset.images, figure)
        print(f"figure: {figure}")


def spectrum_(
    run: Annotated[Path, tyro.conf.Positional],
    config: Annotated[spectrum.SpectrumConfig, _Unprefixed],
    out: Path | None = None,
) -> None:
    """Find the Hessian spectrum of a trained network: both ends, verdict, density, classes.

    Interrupted, the same command goes on where it stopped.

    Args:
        run: folder of a training run.
        config: what to find out.
        out: folder for spectrum.json and density.png; by default RUN/spectrum.
    """
    out = run / "spectrum" if out is None else out
    print(f"writing to {out}")
    print(spectrum.table(spectrum.spectrum(run, config, out)))
    print(f"written: {out / 'spectrum.json'}, {out / 'density.png'}")


def measure_(
    file: Annotated[Path, tyro.conf.Positional],
    out: Path | None = None,
    center_w: bool = True,
) -> None:
    """Measure neural collapse in features of your own, from any framework.

    The file holds `features` (N x d, before the last layer), integer `labels` (N) and, optionally,
    the last layer: `W` (K x d, as in `torch.nn.Linear.weight`) and `b` (K).

    Args:
        file: an .npz file, written by `numpy.savez`.
        out: folder for collapse.json and collapse.png; by default FILE without its ending.
        center_w: subtract the mean row of W in NC2 and NC3.
    """
    if out is None:
        out = file.with_suffix("") if file.suffix else file.with_name(f"{file.name}-collapse")
    numbers = measure.measure_file(file, out, center_W=center_w)
    width = max(map(len, numbers))
    for name, value in numbers.items():
        shown = "undefined (vectors coincide)" if value is None else f"{value:.6g}"
        print(f"{name:<{width}}  {shown}")
    print(f"written: {out / 'collapse.json'}, {out / 'collapse.png'}")


def data_(
    action: Annotated[Literal["list", "prepare"], tyro.conf.Positional],
    name: Annotated[str | None, tyro.conf.Positional] = None,
    data_dir: Path | None = None,
) -> None:
    """List the data sets that need no network, or prepare one of tensorflow-datasets.

    It is downloaded, verified and decoded, once. Fashion-MNIST comes from Debian's package
    dataset-fashion-mnist where that is installed.

    Args:
        action: what to do.
        name: as fashion_mnist, mnist, kmnist, cifar10 or cifar100, which need no TensorFlow.
        data_dir: folder of all data sets; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.
    """
    if action == "prepare":
        if name is None:
            raise checks.reject("name", "none", "the data set to prepare", "See `ncjax data list`.")
        print(f"writing to {data.data_folder(data_dir)}")
        print(f"ready: {data.prepare(name, data_dir)}")
    print(pd.DataFrame(data.available(data_dir)).to_string(index=False))


_COMMANDS = {
    "landscape": landscape,
    "train": train,
    "spectrum": spectrum_,
    "measure": measure_,
    "data": data_,
}


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command line; bad input ends in one paragraph on stderr and exit code 2.

    Args:
        args: the words after `ncjax`; those of the process if None.
    """
    try:
        tyro.extras.subcommand_cli_from_dict(
            _COMMANDS,
            prog="ncjax",
            description="Study neural collapse: landscapes, training runs, your own features.",
            args=args,
        )
    except checks.InputError as error:
        print(textwrap.fill(f"ncjax: {error}", 100), file=sys.stderr)
        raise SystemExit(2) from None
