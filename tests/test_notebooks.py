import nbclient
import nbformat
import pytest
from jupyter_client import KernelManager

from tests.plugin import ROOT

NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))

# Jupyter's own machinery warns of its own deprecations; the notebook's code runs in a kernel.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def kernel():
    """One for all, as imports are half of the time; each notebook begins without names."""
    manager = KernelManager()
    manager.start_kernel()
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_from_top_to_bottom(path, kernel, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    fresh = nbformat.v4.new_code_cell(f"%reset -f\n%cd -q {tmp_path}")
    notebook.cells.insert(0, fresh)
    nbclient.NotebookClient(notebook, km=kernel, timeout=300).execute()
    shown = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert any("image/png" in out.get("data", {}) for out in shown)
