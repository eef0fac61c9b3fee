"""Data sets of tensorflow-datasets, prepared once and decoded once.

`prepare` makes two things in the data folder: TFDS's own files (array_record, checksums verified),
readable by `tfds.data_source`, and beside them plain arrays, which `read` maps into memory. MNIST,
Fashion-MNIST, KMNIST, CIFAR-10 and CIFAR-100 need no TensorFlow (`ncjax.data.builders`); any other
name goes through TFDS's stock builder, which does. Fashion-MNIST needs no network either where
Debian's package dataset-fashion-mnist is installed.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import shutil
import struct
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from ncjax import checks, progress

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist has its files."""
_ARRAYS = ("images", "labels", "test_images", "test_labels")
# Debian's files are the original ones but for the gzip header: no name there, another time.
_TIMES = {"train": 1504176606, "t10k": 1504176627}


def data_folder(data_dir: Path | str | None = None) -> Path:
    """Where prepared data are: the argument, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    named = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(named).expanduser()


def arrays_folder(name: str, data_dir: Path | str | None = None) -> Path:
    """Where the decoded arrays of a data set are, or will be."""
    return data_folder(data_dir) / "ncjax" / name.replace("/", "-")


def prepare(name: str, data_dir: Path | str | None = None, *, limit: int | None = None) -> Path:
    """Makes a data set ready, unless it is.

    Args:
        name: of a TFDS data set with an `image` of fixed shape and a `label`.
        data_dir: folder for all data sets; see `data_folder`.
        limit: examples of each split, to try things out in a folder of their own; all if None.

    Returns:
        The folder with the decoded arrays.

    Raises:
        InputError: unknown name; no network; TensorFlow needed and not installed; images of
            different shapes; a folder that can't be written, or damaged files.
    """
    folder = arrays_folder(name, data_dir)
    if (folder / "info.json").exists():
        return folder
    root = data_folder(data_dir)
    try:
        root.mkdir(parents=True, exist_ok=True)
        builder = _prepared_builder(name, root, limit)
        _decode(builder, folder)
    except RuntimeError as error:  # array_record's word for a record that fails its checksum
        got, where = f"{name}, with damaged records ({error})", builder.data_path
        remedy = f"Delete {where} and run `ncjax data prepare {name}`."
        raise checks.reject("dataset", got, "one whose files are whole", remedy) from error
    except OSError as error:
        remedy = "Choose another with data_dir or $TFDS_DATA_DIR, or make room."
        raise checks.reject("data_dir", f"{root} ({error})", "a writable folder", remedy) from error
    return folder


def read(
    name: str, data_dir: Path | str | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a prepared data set, mapped into memory, and its `info.json`.

    Raises:
        InputError: the files are damaged.
    """
    folder = arrays_folder(name, data_dir)
    try:
        info = json.loads((folder / "info.json").read_text())
        arrays = {x: np.load(folder / f"{x}.npy", mmap_mode="r") for x in _ARRAYS}
    except (OSError, ValueError, KeyError) as error:
        got, remedy = f"{name} ({error})", f"Delete {folder} and run `ncjax data prepare {name}`."
        raise checks.reject("dataset", got, "one whose files are whole", remedy) from error
    return arrays, info


def available(data_dir: Path | str | None = None) -> list[dict[str, Any]]:
    """What can be loaded without network: a row each, with name, sizes and where it comes from."""
    rows = [{"name": "digits", "train": 1437, "test": 360, "from": "scikit-learn"}]
    folders = sorted((data_folder(data_dir) / "ncjax").glob("*/info.json"))
    for path in folders:
        info = json.loads(path.read_text())
        rows.append({"name": info["name"], **info["sizes"], "from": str(path.parent)})
    if DEBIAN.exists() and "fashion_mnist" not in [row["name"] for row in rows]:
        sizes = {"train": 60000, "test": 10000}
        rows.append({"name": "fashion_mnist", **sizes, "from": f"{DEBIAN}, to be prepared"})
    return rows


def _prepared_builder(name: str, root: Path, limit: int | None) -> Any:
    """A builder whose array_record files are there."""
    import tensorflow_datasets as tfds

    from ncjax.data.builders import BUILDERS

    settings: dict[str, Any] = {"max_examples_per_split": limit}
    if name in BUILDERS:
        builder = BUILDERS[name](data_dir=str(root), file_format="array_record")
        if not builder.data_path.exists():
            settings["manual_dir"] = str(_fetch(builder, root / "downloads" / "ncjax" / name))
    else:
        known = tfds.list_builders(with_community_datasets=False)
        if name.split("/")[0] not in known:
            near = difflib.get_close_matches(name, ["digits", *known], n=1)
            remedy = f"Did you mean {near[0]!r}?" if near else ""
            accepted = f"'digits', a name of TFDS ({', '.join(BUILDERS)}, ...) or an .npz file"
            raise checks.reject("dataset", repr(name), accepted, remedy)
        builder = tfds.builder(name, data_dir=str(root), file_format="array_record")
    config = tfds.download.DownloadConfig(**settings)
    try:
        builder.download_and_prepare(download_config=config)
    except ImportError as error:
        remedy = "Install tensorflow-cpu, or copy the prepared folder from where it is installed."
        accepted = "one that is prepared without TensorFlow, or has been prepared"
        raise checks.reject("dataset", f"{name} ({error})", accepted, remedy) from error
    return builder


def _fetch(builder: Any, folder: Path) -> Path:
    """The original files in a folder, downloaded unless they are there whole."""
    from ncjax.data.builders import files_of

    folder.mkdir(parents=True, exist_ok=True)
    for file, (url, checksum) in files_of(builder).items():
        path = folder / file
        if path.exists() and _sha256(path) == checksum:
            continue
        if builder.name == "fashion_mnist" and (DEBIAN / file).exists():
            path.write_bytes(_original(DEBIAN / file))
        else:
            _download(builder.name, url, path)
        if _sha256(path) != checksum:
            got = f"{path} with a SHA-256 other than {checksum}"
            raise checks.reject("dataset", got, "the original files", f"Delete {path}; try again.")
    return folder


def _original(path: Path) -> bytes:
    """The bytes of a Debian file under the gzip header of the original."""
    raw, name = path.read_bytes(), path.name.removesuffix(".gz").encode()
    time = struct.pack("<I", _TIMES[path.name.split("-")[0]])
    return b"\x1f\x8b\x08\x08" + time + raw[8:10] + name + b"\0" + raw[10:]


def _download(name: str, url: str, path: Path) -> None:
    draft = path.with_suffix(".part")
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, draft.open("wb") as out:
            total = int(answer.headers.get("Content-Length") or 0) or None
            with progress.bar(total=total, unit="B", unit_scale=True, desc=path.name) as bar:
                while block := answer.read(1 << 20):
                    out.write(block)
                    bar.update(len(block))
    except urllib.error.URLError as error:
        offline = ", ".join(row["name"] for row in available(path.parents[3]))
        remedy = (
            f"Run `ncjax data prepare {name}` where there is network, or put {path.name} into "
            f"{path.parent}. Without network there is: {offline}."
        )
        if name == "fashion_mnist":
            remedy += " Debian's package dataset-fashion-mnist brings this one."
        got = f"{name}, from {url}, which can't be reached ({error.reason})"
        raise checks.reject("dataset", got, "prepared, or to be downloaded", remedy) from error
    draft.replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _decode(builder: Any, folder: Path) -> None:
    """Writes images and labels of all examples as arrays; the folder appears when all is there."""
    features = builder.info.features
    shape = tuple(features["image"].shape) if {"image", "label"} <= set(features) else (None,)
    if None in shape:
        raise checks.reject(
            "dataset",
            f"{builder.name}, with features {', '.join(features)}",
            "one with a `label` and an `image` of fixed shape",
            "Write its arrays to an .npz file.",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
    sizes = {}
    for split, prefix in (("train", ""), ("test", "test_")):
        examples = builder.as_data_source(split=split) if split in builder.info.splits else []
        sizes[split] = len(examples)
        images = np.empty((len(examples), *shape), np.uint8)
        labels = np.empty(len(examples), np.int32)
        places = range(0, len(examples), 1000)
        for start in progress.bar(places, desc=f"{builder.name} {split}", unit=" thousand"):
            rows = range(start, min(start + 1000, len(examples)))
            for row, example in zip(rows, examples.__getitems__(list(rows)), strict=True):
                images[row], labels[row] = example["image"], example["label"]
        np.save(draft / f"{prefix}images.npy", images)
        np.save(draft / f"{prefix}labels.npy", labels)
    info = {"name": builder.name, "version": str(builder.version), "sizes": sizes}
    info |= {"num_classes": features["label"].num_classes, **_statistics(draft)}
    (draft / "info.json").write_text(json.dumps(info))
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def _statistics(folder: Path) -> dict[str, list[float]]:
    """Mean and deviation of each channel of the training images, over 255."""
    images = np.load(folder / "images.npy", mmap_mode="r")
    counts = np.zeros((images.shape[-1], 256))
    for start in range(0, len(images), 1000):
        part = images[start : start + 1000]
        counts += [
            np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(part, -1, 0)
        ]
    shares, levels = counts / counts.sum(1, keepdims=True), np.arange(256) / 255
    mean = shares @ levels
    deviation = np.sqrt(shares @ levels**2 - mean**2)
    return {"mean": mean.tolist(), "deviation": np.maximum(deviation, 1e-3).tolist()}
