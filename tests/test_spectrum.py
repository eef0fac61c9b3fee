import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncjax import cli, curvature, spectrum, training
from ncjax.checks import InputError

CONFIG = spectrum.SpectrumConfig(
    num_steps=250, num_probes=2, density_steps=20, layers=("head",), batch_size=500
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network of 618 parameters far past zero error."""
    folder = tmp_path_factory.mktemp("spectrum") / "run"
    config = training.TrainConfig(
        widths=(8,), epochs=150, learning_rate=0.1, weight_decay=2e-3, measure_every=150
    )
    training.train(config, folder, backend="vmap", show_progress=False)
    return folder


@pytest.fixture(scope="module")
def report(run):
    return spectrum.spectrum(run, CONFIG, show_progress=False)


def test_the_ends_converge_in_float32_and_equal_those_of_the_dense_float64_matrix(run, report):
    whole = report["blocks"]["all parameters"]
    assert whole["parameters"] == 618
    assert len(whole["eigenvalues"]) == 10 + 2 + 3
    assert max(whole["residuals"]) < 1e-3 * whole["norm"]
    trained = training.load_run(run)
    params = trained.variables["params"]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        data = (trained.dataset.images.astype(np.float64), trained.dataset.labels)
        f = curvature.data_hessian(trained.example_loss, data, weight_decay=2e-3)
        values = np.linalg.eigvalsh(curvature.hessian_matrix(f, wide))
    expected = np.r_[values[:3], values[-12:]]
    np.testing.assert_allclose(whole["eigenvalues"], expected, atol=1e-4 * whole["norm"])
    np.testing.assert_allclose(whole["mean_eigenvalue"], values.mean(), atol=0.05 * values.mean())


def test_layers_classes_and_files_are_there(run, report):
    assert report["blocks"]["head"]["parameters"] == 90
    assert report["classes"]["outliers"] >= 1
    assert min(report["classes"]["alignment"]) > 0.5
    folder = run / "spectrum"
    assert json.loads((folder / "spectrum.json").read_text()) == report
    assert (folder / "density.png").stat().st_size > 10_000
    assert not list(folder.glob("blocks/*.npz"))
    shown = spectrum.table(report)
    assert report["blocks"]["head"]["verdict"] in shown
    assert "stand clear" in shown


def test_done_blocks_are_read_not_computed_again(run, report, monkeypatch):
    def computed_again(*_):
        raise AssertionError

    monkeypatch.setattr(spectrum, "_block", computed_again)
    monkeypatch.setattr(spectrum, "_classes", computed_again)
    assert spectrum.spectrum(run, CONFIG, show_progress=False) == report


def test_the_command_prints_the_table(run, report, capsys):
    words = "--num-steps 250 --num-probes 2 --density-steps 20 --layers head --batch-size 500"
    cli.main(["spectrum", str(run), *words.split()])
    shown = capsys.readouterr().out
    assert f"{report['blocks']['all parameters']['eigenvalues'][-1]:.5g}" in shown
    assert "density.png" in shown


@pytest.mark.usefixtures("no_type_checks")
def test_bad_input_is_refused_by_name(run, report, tmp_path):
    del report
    with pytest.raises(InputError, match="`run`"):
        spectrum.spectrum(tmp_path)
    with pytest.raises(InputError, match="`layers`: got 'Conv_\\*'"):
        spectrum.spectrum(run, dataclasses.replace(CONFIG, layers=("Conv_*",)), tmp_path / "a")
    with pytest.raises(InputError, match="another configuration"):
        spectrum.spectrum(run, dataclasses.replace(CONFIG, num_steps=251))
    with pytest.raises(InputError, match="`num_steps`"):
        spectrum.spectrum(run, dataclasses.replace(CONFIG, num_steps=10), tmp_path / "b")
    assert not (tmp_path / "b").exists()
    with pytest.raises(InputError, match="`bottom`"):
        spectrum.SpectrumConfig(bottom=0)
