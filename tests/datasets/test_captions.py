"""COCO's captions as prompts."""

import json

import pytest

from sfd_sweep.datasets.prompts import read_prompts
from sfd_sweep.errors import UserError

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
        ("{", "cannot be read as JSON"),
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
