"""A small dataset of real photographs, in the form in which the Hugging Face hub gives them out."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet
from sklearn.datasets import load_sample_images

NAMES = ("china", "flower")
IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def photographs(folder: Path, *, count: int = 200, size: int = 32, seed: int = 0) -> Path:
    """Patches of two photographs as JPEG in Parquet, train-00000-of-00001.parquet and test-00000-of-00001.parquet.

    Args:
        folder: of the two files; made if it is not there.
        count: patches to train on, half of them of each class; half as many more are there to test on.
        size: of a patch, in pixels.
        seed: of where they lie. None lies upon another as long as both photographs (427×640) have room.

    Returns:
        The folder.
    """
    generator = np.random.default_rng(seed)
    needed = [count // 2, count // 4]
    cut = [_patches(photograph, sum(needed), size, generator) for photograph in load_sample_images().images]
    parts = [(patches[: needed[0]], patches[needed[0] :]) for patches in cut]
    for split, of_classes in zip(("train", "test"), zip(*parts, strict=True), strict=True):
        mixed = [patch for pair in zip(*of_classes, strict=True) for patch in pair]
        labels = [0, 1] * (len(mixed) // 2)
        write_parquet(folder / f"{split}-00000-of-00001.parquet", [encode(patch) for patch in mixed], labels, NAMES)
    return folder


def encode(pixels: NDArray[np.uint8], form: str = "JPEG") -> bytes:
    """An image file's content. JPEG changes the pixels a little, PNG does not."""
    content = BytesIO()
    Image.fromarray(pixels).save(content, form, quality=95)
    return content.getvalue()


def write_parquet(file: Path, images: list, labels: list, names: tuple[str, ...] | None = None) -> Path:
    """A file with columns img and label; the metadata name the classes where they have names."""
    rows = [image if image is None else {"bytes": image, "path": f"{row}.jpg"} for row, image in enumerate(images)]
    table = pa.table({"img": pa.array(rows, IMAGE), "label": pa.array(labels, pa.int64())})
    if names is not None:
        features = {"img": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, file)
    return file


def _patches(
    photograph: NDArray[np.uint8], count: int, size: int, generator: np.random.Generator
) -> list[NDArray[np.uint8]]:
    """Squares from a grid that lies somewhere on the photograph, in random order."""
    height, width = (length - size + 1 for length in photograph.shape[:2])
    stride = next(step for step in range(size, 0, -1) if -(-height // step) * -(-width // step) >= count * 1.2)
    top, left = generator.integers(0, max(1, min(stride, height) // 8)), generator.integers(0, max(1, stride // 8))
    corners = [(y, x) for y in range(top, height, stride) for x in range(left, width, stride)]
    order = generator.permutation(len(corners))[:count]
    return [photograph[y : y + size, x : x + size] for y, x in (corners[index] for index in order)]
