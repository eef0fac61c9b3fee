import gzip
import shutil
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from ncjax import data
from ncjax.checks import InputError
from ncjax.data import builders, prepared

needs_debian = pytest.mark.skipif(
    not prepared.DEBIAN.exists(), reason="needs Debian's package dataset-fashion-mnist"
)


@needs_debian
@pytest.mark.filterwarnings("default")  # of TFDS about itself
def test_fashion_mnist_is_prepared_offline_without_tensorflow_and_read_by_tfds(tmp_path):
    folder = data.prepare("fashion_mnist", tmp_path, limit=300)
    dataset = data.load("fashion_mnist", tmp_path)
    assert dataset.images.shape == dataset.test_images.shape == (300, 28, 28, 1)
    assert dataset.num_classes == 10
    # The records are those of the original files, in TFDS's order.
    with gzip.open(prepared.DEBIAN / "train-images-idx3-ubyte.gz") as file:
        original = np.frombuffer(file.read(16 + 300 * 784), np.uint8, offset=16).reshape(300, 784)
    ours = dataset.images.reshape(300, 784)
    np.testing.assert_array_equal(np.unique(ours, axis=0), np.unique(original, axis=0))
    source = tfds.data_source("fashion_mnist", split="train", data_dir=tmp_path)
    for i in (0, 7, 299):
        np.testing.assert_array_equal(source[i]["image"], dataset.images[i])
        assert source[i]["label"] == dataset.labels[i]
    assert "tensorflow" not in sys.modules
    written = (folder / "info.json").stat().st_mtime_ns
    assert data.prepare("fashion_mnist", tmp_path) == folder
    assert (folder / "info.json").stat().st_mtime_ns == written
    rows = {row["name"]: row for row in data.available(tmp_path)}
    assert rows["fashion_mnist"]["train"] == 300
    assert rows["digits"]["from"] == "scikit-learn"
    (folder / "images.npy").write_bytes(b"half")
    with pytest.raises(InputError, match="whole.*ncjax data prepare fashion_mnist"):
        data.load("fashion_mnist", tmp_path)
    shutil.rmtree(folder)
    (records,) = tmp_path.glob("fashion_mnist/*/*train.array_record*")
    content = bytearray(records.read_bytes())
    middle = slice(len(content) // 20, len(content) // 20 + 400)
    content[middle] = bytes(byte ^ 255 for byte in content[middle])
    records.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged records.*Delete .*3\.0\.1 and run"):
        data.prepare("fashion_mnist", tmp_path)


@needs_debian
def test_debians_files_become_the_originals(tmp_path):
    builder = builders.FashionMNIST(data_dir=str(tmp_path), file_format="array_record")
    for name, (_, checksum) in builders.files_of(builder).items():
        path = tmp_path / name
        path.write_bytes(prepared._original(prepared.DEBIAN / name))
        assert prepared._sha256(path) == checksum


def test_without_network_the_error_says_what_to_run_and_what_there_is(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise prepared.urllib.error.URLError("no route")

    monkeypatch.setattr(prepared.urllib.request, "urlopen", refuse)
    message = "`dataset`.*can't be reached.*ncjax data prepare mnist.*there is: digits"
    with pytest.raises(InputError, match=message):
        data.load("mnist", tmp_path)


def test_damaged_downloads_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "_download", lambda _, __, path: path.write_bytes(b"half"))
    with pytest.raises(InputError, match="SHA-256"):
        data.prepare("kmnist", tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="`data_dir`.*writable.*TFDS_DATA_DIR"):
        data.prepare("mnist", tmp_path / "file" / "below")


def test_uint8_images_are_standardised_by_channel(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 4, 4, 3)).astype(np.uint8)
    images[..., 1] //= 4
    np.save(tmp_path / "images.npy", images)
    scales = {name: tuple(x) for name, x in prepared._statistics(tmp_path).items()}
    labels = np.arange(50, dtype=np.int32) % 2
    dataset = data.Dataset("x", 2, images, labels, labels, images[:0], labels[:0], **scales)
    seen = dataset.inputs(images)
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std((0, 1, 2)), 1, rtol=1e-4)
    digits = data.load("digits")
    assert digits.inputs(digits.images) is digits.images
