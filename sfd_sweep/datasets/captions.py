"""COCO's captions: a JSON file with `images` and `annotations`. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ValidationError

from sfd_sweep.errors import UserError


class _Image(BaseModel):
    id: int


class _Annotation(BaseModel):
    id: int
    image_id: int
    caption: str


class _Captions(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]


def read_captions(path: Path) -> list[str]:
    """One caption of each image, the first by the annotations' ids, in the file's order of images.

    Raises:
        UserError: it is no such file, or an image has no caption.
    """
    captions = _read(path)
    first: dict[int, str] = {}
    for annotation in sorted(captions.annotations, key=lambda annotation: annotation.id):
        first.setdefault(annotation.image_id, annotation.caption)
    for image in captions.images:
        if image.id not in first:
            raise UserError(f"{path}: the image {image.id} has no caption among the annotations; fetch the file again")
    return [first[image.id] for image in captions.images]


def _read(path: Path) -> _Captions:
    try:
        return _Captions.model_validate(json.loads(path.read_bytes()))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the file"
        raise UserError(f"{path} holds no captions as COCO's: {where}: {fault['msg']}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error})") from error
