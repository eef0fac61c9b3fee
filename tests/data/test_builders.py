import gzip
import io
import tarfile

import numpy as np
import pytest

from ncjax.data import builders


def test_cifars_archive_is_read_without_being_unpacked(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (6, 2 + 3072)).astype(np.uint8)
    rows[:, 0], rows[:, 1] = np.arange(6), np.arange(6) + 10
    info = builders.Cifar100(data_dir=str(tmp_path))._cifar_info
    contents = {
        "train.bin": rows[:4].tobytes(),
        "test.bin": rows[4:].tobytes(),
        "fine_label_names.txt": "\n".join(f"fine{i}" for i in range(100)).encode(),
        "coarse_label_names.txt": "\n".join(f"coarse{i}" for i in range(20)).encode(),
    }
    downloads = tmp_path / "downloads" / "ncjax" / "cifar100"
    downloads.mkdir(parents=True)
    with tarfile.open(downloads / "cifar-100-binary.tar.gz", "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(info.prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    builder = builders.Cifar100(data_dir=str(tmp_path), file_format="array_record")

    class Downloads:
        def download(self, urls):
            assert set(urls) == {"archive"}
            return {"archive": downloads / "cifar-100-binary.tar.gz"}

    splits = builder._split_generators(Downloads())
    examples = dict(splits["train"])
    assert sorted(examples) == [0, 1, 2, 3]
    third = examples[2]
    assert (third["coarse_label"], third["label"], third["id"]) == (2, 12, "train_00002")
    pixels = rows[2, 2:].reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_array_equal(np.asarray(third["image"]), pixels)
    assert builder.info.features["label"].names[3] == "fine3"


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_idx_files_become_examples_in_their_order(name, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 28, 28)).astype(np.uint8)
    labels = np.array([4, 0, 9], np.uint8)
    paths = tmp_path / "images.gz", tmp_path / "labels.gz"
    for path, header, content in zip(paths, (16, 8), (pixels, labels), strict=True):
        path.write_bytes(gzip.compress(bytes(header) + content.tobytes()))
    builder = builders.BUILDERS[name](data_dir=str(tmp_path), file_format="array_record")
    assert builder.name == name
    examples = dict(builder._generate_examples(*paths))
    assert [examples[i]["label"] for i in range(3)] == [4, 0, 9]
    for i in range(3):
        np.testing.assert_array_equal(np.asarray(examples[i]["image"]), pixels[i])


@pytest.mark.parametrize("name", sorted(builders.BUILDERS))
def test_every_file_has_a_checksum_registered_by_tfds(name, tmp_path):
    files = builders.files_of(builders.BUILDERS[name](data_dir=str(tmp_path)))
    assert len(files) == (1 if name.startswith("cifar") else 4)
    assert all(url.startswith("http") and len(sha) == 64 for url, sha in files.values())
