"""Prompts, read from files."""

import json

import pandas as pd
import pytest

from sfd_sweep.datasets.prompts import read_prompts
from sfd_sweep.errors import UserError


def test_a_text_file_has_a_prompt_a_line(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a photo of zero\n\n  größe, with a comma \na photo of zero\n", encoding="utf-8")
    assert read_prompts(str(file)) == ("a photo of zero", "größe, with a comma")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_has_them_in_a_column(tmp_path, kind):
    table = pd.DataFrame({"id": [1, 2, 3], "caption": ["one, two", "", "three"], "other": ["a", "b", "c"]})
    file = tmp_path / f"prompts.{kind}"
    table.to_csv(file, index=False) if kind == "csv" else table.to_parquet(file)
    assert read_prompts(str(file)) == ("one, two", "three")
    assert read_prompts(f"{file}:other") == ("a", "b", "c")


def test_the_first_of_several_usual_columns_is_taken(tmp_path):
    file = tmp_path / "prompts.csv"
    file.write_text("text,prompt\nt,p\n")
    assert read_prompts(str(file)) == ("p",)


@pytest.mark.parametrize(
    ("name", "content", "source", "words"),
    [
        ("prompts.txt", b"\n  \n", "prompts.txt", "there is no prompt in {folder}/prompts.txt"),
        ("prompts.txt", b"\xff\xfe", "prompts.txt", "prompts.txt cannot be read as text"),
        ("prompts.txt", b"one", "prompt.txt", "there is no file {folder}/prompt.txt"),
        ("prompts.csv", b"prompt\n", "prompts.csv", "there is no prompt in"),
        ("prompts.csv", b"", "prompts.csv", "prompts.csv cannot be read as csv"),
        ("prompts.csv", b"id,words\n1,a\n", "prompts.csv", "no column prompt or caption or text or sentence; name"),
        ("prompts.csv", b"id,words\n1,a\n", "prompts.csv:word", "has no column 'word'; did you mean words?"),
        ("prompts.csv", b"id,words\n1,a\n", "prompts.csv:id", "the column id holds int64, and no text"),
        ("prompts.parquet", b"nothing", "prompts.parquet", "prompts.parquet cannot be read as parquet"),
    ],
)
def test_a_file_without_prompts_is_refused(tmp_path, name, content, source, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as raised:
        read_prompts(f"{tmp_path}/{source}")
    assert words.format(folder=tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


IMAGES = [{"id": 7, "file_name": "7.jpg"}, {"id": 3, "file_name": "3.jpg"}]
ANNOTATIONS = [
    {"id": 12, "image_id": 3, "caption": "a cow"},
    {"id": 5, "image_id": 7, "caption": "a bee "},
    {"id": 11, "image_id": 3, "caption": "the first of a cow"},
]


def test_each_image_gives_its_first_caption_by_the_annotations_ids(tmp_path):
    file = tmp_path / "captions_val2014.json"
    file.write_text(json.dumps({"info": {}, "images": IMAGES, "annotations": ANNOTATIONS, "licenses": []}))
    assert read_prompts(str(file)) == ("a bee", "the first of a cow")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "holds no captions as COCO's: the file: Invalid JSON"),
        ("[]", "holds no captions as COCO's: the file"),
        ('{"annotations": []}', "images: Field required"),
        (json.dumps({"images": IMAGES, "annotations": [{"id": 1, "image_id": 7}]}), "annotations.0.caption"),
        (json.dumps({"images": IMAGES, "annotations": ANNOTATIONS[:1]}), "the image 7 has no caption"),
        ('{"images": [], "annotations": []}', "there is no prompt in"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(tmp_path, content, words):
    file = tmp_path / "captions.json"
    file.write_text(content)
    with pytest.raises(UserError) as raised:
        read_prompts(str(file))
    assert words in str(raised.value)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)
