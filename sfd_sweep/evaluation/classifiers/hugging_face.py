"""Image classifiers in the format of Hugging Face's transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.pretrained import Pretrained
from sfd_sweep.extras import quiet_transformers, transformers_for

PASSING = ("_name_or_path", "transformers_version", "dtype")
"""Entries of a config that have no part in the judgement."""


def hugging_face_parts(folder: Path) -> Pretrained:
    """The classifier of a folder; no code out of it is run.

    Raises:
        UserError: transformers is not installed, or the folder holds no whole image classifier that it knows.
    """
    transformers = transformers_for(f"{folder} is a classifier of transformers")
    here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet_transformers():
            processor = transformers.AutoImageProcessor.from_pretrained(folder, **here)
            model, loaded = transformers.AutoModelForImageClassification.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **here
            )
    except (OSError, ValueError, SafetensorError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder} holds no image classifier that transformers can load: {reason}") from error
    check_complete(folder, loaded, what="image classifier")
    config = model.config
    return Pretrained(
        network=_Logits(model),
        prepare=Preparation(processor),
        recipe={
            "model": {name: value for name, value in config.to_dict().items() if name not in PASSING},
            "processor": processor.to_dict(),
        },
        class_names=tuple(str(config.id2label[index]) for index in range(config.num_labels)),
        channels=int(getattr(config, "num_channels", 3)),
    )


def check_complete(folder: Path, loaded: dict[str, Any], *, what: str) -> None:
    """Whether every weight came out of the folder; transformers makes up those that did not.

    Args:
        folder: that was loaded.
        loaded: what transformers tells of the loading.
        what: the folder should hold, in words.

    Raises:
        UserError: some did not.
    """
    made_up = sorted({*loaded["missing_keys"], *(name for name, *_ in loaded["mismatched_keys"])})
    if made_up:
        raise UserError(
            f"{folder}: its weights do not fit its config.json ({made_up[0]} is missing or of another shape); it is no "
            f"{what}, or was not fetched whole"
        )


class _Logits(nn.Module):
    """A model of transformers that returns the logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=pixel_values).logits
        return logits


class Preparation:
    """What an image processor makes of a batch; where it works with PIL, on the CPU."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._on_device = processor.backend == "torchvision"

    def __call__(self, images: Tensor) -> Tensor:
        given = images if self._on_device else images.cpu()
        prepared = self._processor(images=given, return_tensors="pt", input_data_format="channels_first")
        pixel_values: Tensor = prepared["pixel_values"]
        return pixel_values.to(images.device)
