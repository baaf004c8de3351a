"""Images in Parquet: every row is read or reported, and the labels mean what the file says."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from photographs import IMAGE, NAMES, encode, photographs, write_parquet
from pyarrow import parquet
from torchvision.io import decode_image

from sfd_sweep.datasets.sources import load_images
from sfd_sweep.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 6, 5, 3), np.uint8)
PNGS = [encode(image, "PNG") for image in IMAGES]
LABELS = [2, 0, 1, 1, 0, 2, 2]


def refusal(source: object, **options: object) -> str:
    with pytest.raises(UserError) as raised:
        load_images(str(source), **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def table(file: Path, **columns: pa.Array) -> Path:
    parquet.write_table(pa.table(columns), file)
    return file


def images_of(contents: list) -> pa.Array:
    return pa.array([{"bytes": content, "path": None} for content in contents], IMAGE)


def test_a_file_gives_its_pixels_and_labels_in_order(tmp_path: Path) -> None:
    loaded = load_images(str(write_parquet(tmp_path / "images.parquet", PNGS, LABELS)))
    np.testing.assert_array_equal(loaded.pixels.numpy(), IMAGES.transpose(0, 3, 1, 2))
    assert loaded.labels.tolist() == LABELS
    assert loaded.class_names == ("0", "1", "2")
    assert loaded.levels == 256


def test_rows_keep_their_order_over_many_batches_and_row_groups(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 256, (2500, 2, 2), np.uint8)
    columns = {"image": images_of([encode(v, "PNG") for v in values]), "labels": pa.array(values[:, 0, 0], pa.uint8())}
    parquet.write_table(pa.table(columns), tmp_path / "many.parquet", row_group_size=700)
    loaded = load_images(str(tmp_path / "many.parquet"))
    np.testing.assert_array_equal(loaded.pixels[:, 0].numpy(), values)
    np.testing.assert_array_equal(loaded.labels.numpy(), values[:, 0, 0])


def test_photographs_are_decoded_as_torchvision_decodes_them(tmp_path: Path) -> None:
    folder = photographs(tmp_path, count=40)
    loaded = load_images(str(folder))
    rows = parquet.read_table(folder / "train-00000-of-00001.parquet").to_pylist()
    expected = [decode_image(torch.frombuffer(bytearray(row["img"]["bytes"]), dtype=torch.uint8)) for row in rows]
    difference = (loaded.pixels.int() - torch.stack(expected).int()).abs()
    assert difference.max() <= 4  # two versions of a JPEG library round differently
    assert difference.float().mean() < 0.5
    assert loaded.labels.tolist() == [row["label"] for row in rows]
    assert loaded.class_names == NAMES


@pytest.mark.parametrize(("split", "count"), [("", 40), (":train", 40), (":test", 20), (":all", 60)])
def test_a_split_is_the_files_whose_names_begin_with_it(tmp_path: Path, split: str, count: int) -> None:
    assert len(load_images(f"{photographs(tmp_path, count=40)}{split}")) == count


def test_a_file_of_no_split_belongs_to_every_one(tmp_path: Path) -> None:
    photographs(tmp_path, count=8)
    write_parquet(tmp_path / "more.parquet", [encode(np.zeros((32, 32, 3), np.uint8))] * 3, [0] * 3, NAMES)
    assert [len(load_images(f"{tmp_path}:{split}")) for split in ("train", "test", "all")] == [11, 7, 15]


def test_a_split_that_is_not_there_is_answered_with_one_that_is(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test-00000-of-00001.parquet", PNGS, LABELS)
    assert f"no split 'train'; name one that it has, as in {tmp_path}:test" in refusal(tmp_path)


def test_a_file_that_is_named_is_read_whatever_its_split(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "test-00000-of-00001.parquet", PNGS, LABELS)
    assert len(load_images(str(file))) == 7
    assert "no split 'train'" in refusal(f"{file}:train")


def test_files_may_lie_one_folder_deeper(tmp_path: Path) -> None:
    photographs(tmp_path / "data", count=8)
    assert len(load_images(str(tmp_path))) == 8
    photographs(tmp_path / "cropped", count=8)
    assert f"Parquet files in cropped, data; name one, as {tmp_path}/cropped" in refusal(tmp_path)


def test_several_files_follow_each_other_by_name(tmp_path: Path) -> None:
    for part, rows in enumerate((slice(0, 3), slice(3, 7))):
        write_parquet(tmp_path / f"train-{part:05}-of-00002.parquet", PNGS[rows], LABELS[rows])
    loaded = load_images(str(tmp_path))
    np.testing.assert_array_equal(loaded.pixels.numpy(), IMAGES.transpose(0, 3, 1, 2))
    assert loaded.labels.tolist() == LABELS


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        (b"no image at all", "is no whole PNG, JPEG, WEBP or BMP image"),
        (PNGS[0][:-30], "is no whole PNG"),
        (b"", "is no whole PNG"),
        (None, "holds no image"),
        (encode(IMAGES[0][:4], "PNG"), "is an image of 5×4 pixels, and the first has 5×6"),
    ],
)
def test_broken_images_are_reported_by_file_and_row_and_counted(
    tmp_path: Path, broken: bytes | None, what: str
) -> None:
    write_parquet(tmp_path / "train-0.parquet", PNGS, LABELS)
    file = write_parquet(tmp_path / "train-1.parquet", [*PNGS[:4], broken, PNGS[5], broken], LABELS)
    message = refusal(tmp_path)
    assert message.startswith(f"{file}: row 4 (from 0) {what}")
    assert "2 of 14 images cannot be used" in message


@pytest.mark.parametrize("row", range(7))
def test_a_broken_row_is_reported_by_its_own_file_whichever_it_is(tmp_path: Path, row: int) -> None:
    labels = [-1 if index == row else 0 for index in range(7)]
    for part, rows in enumerate((slice(0, 3), slice(3, 4), slice(4, 7))):
        write_parquet(tmp_path / f"{part}.parquet", PNGS[rows], labels[rows])
    file, within = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (2, 2)][row]
    assert refusal(tmp_path).startswith(f"{tmp_path}/{file}.parquet: row {within} (from 0) has a label")


@pytest.mark.parametrize(("label", "names"), [(-1, None), (None, None), (3, ("a", "b", "c"))])
def test_labels_of_no_class_are_reported_by_file_and_row_and_counted(
    tmp_path: Path, label: int | None, names: tuple[str, ...] | None
) -> None:
    file = write_parquet(tmp_path / "images.parquet", PNGS, [2, label, 1, 1, 0, label, label], names)
    message = refusal(file)
    assert message.startswith(f"{file}: row 1 (from 0) has ")
    assert "label" in message
    assert "3 of 7 images cannot be used" in message


def test_a_row_with_two_faults_is_counted_once(tmp_path: Path) -> None:
    assert "1 of 7" in refusal(write_parquet(tmp_path / "a.parquet", [b"", *PNGS[1:]], [-1, *LABELS[1:]]))


def test_an_image_column_without_its_struct_is_reported_by_row(tmp_path: Path) -> None:
    assert "row 2 (from 0) holds no image" in refusal(
        write_parquet(tmp_path / "a.parquet", [*PNGS[:2], None, *PNGS[3:]], LABELS)
    )


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"label": pa.array(LABELS)}, "0 columns of images, struct<bytes, path>, and should have one; it has label"),
        ({"a": images_of(PNGS), "b": images_of(PNGS), "label": pa.array(LABELS)}, "2 columns of images"),
        ({"img": images_of(PNGS)}, "one column of labels, named label, labels, fine_label, class; it has img"),
        ({"img": images_of(PNGS), "label": pa.array(LABELS), "labels": pa.array(LABELS)}, "one column of labels"),
        ({"img": images_of(PNGS), "label": pa.array(["cat"] * 7)}, "'label' are string, not integers; number the"),
        ({"img": images_of(PNGS), "label": pa.array([0.5] * 7)}, "'label' are double, not integers"),
        ({"img": images_of([]), "label": pa.array([], pa.int64())}, "hold no row"),
    ],
)
def test_columns_that_do_not_tell_images_and_labels_are_refused(tmp_path: Path, columns: dict, words: str) -> None:
    assert words in refusal(table(tmp_path / "a.parquet", **columns))


def test_coarse_labels_beside_fine_ones_are_left_alone(tmp_path: Path) -> None:
    columns = {"fine_label": pa.array(LABELS), "coarse_label": pa.array([0] * 7), "img": images_of(PNGS)}
    assert load_images(str(table(tmp_path / "a.parquet", **columns))).labels.tolist() == LABELS


def test_files_that_name_other_classes_are_not_mixed(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", PNGS, LABELS, ("a", "b", "c"))
    write_parquet(tmp_path / "train-1.parquet", PNGS, LABELS, ("a", "c", "b"))
    assert "train-1.parquet names other classes than" in refusal(tmp_path)


@pytest.mark.parametrize("written", ["{", "[]", '{"info": {"features": {"img": {}}}}', '{"info": {"features": null}}'])
def test_metadata_that_do_not_describe_the_labels_are_refused(tmp_path: Path, written: str) -> None:
    content = pa.table({"img": images_of(PNGS), "label": pa.array(LABELS)})
    parquet.write_table(content.replace_schema_metadata({"huggingface": written}), tmp_path / "a.parquet")
    assert "does not describe column 'label'" in refusal(tmp_path / "a.parquet")


def test_labels_that_are_plain_numbers_in_the_metadata_have_no_names(tmp_path: Path) -> None:
    features = {"img": {"_type": "Image"}, "label": {"dtype": "int64", "_type": "Value"}}
    content = pa.table({"img": images_of(PNGS), "label": pa.array(LABELS)})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(content.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    assert load_images(str(tmp_path / "a.parquet")).class_names == ("0", "1", "2")


@pytest.mark.parametrize("keep", [0, 10, -5, 300])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, keep: int) -> None:
    file = write_parquet(tmp_path / "a.parquet", PNGS, LABELS)
    file.write_bytes(file.read_bytes()[:keep])
    assert f"{file} cannot be read as Parquet" in refusal(file)


def test_a_file_with_damage_inside_is_refused(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", PNGS, LABELS)
    content = file.read_bytes()
    file.write_bytes(content[:4] + bytes(60) + content[64:])
    assert f"{file} cannot be read as Parquet" in refusal(file)
