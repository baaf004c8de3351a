"""A one-step generator as an MLflow model. MLflow copies this file into the model: it imports nothing of sfd_sweep."""

from typing import Any

import mlflow
import numpy as np
import pandas
from numpy.typing import NDArray

BATCH = 256


class GeneratorModel(mlflow.pyfunc.PythonModel):
    """Images for seeds and labels or prompts."""

    def load_context(self, context: Any) -> None:
        """Load the diffusers folder with its own pipeline."""
        import torch
        from diffusers import DiffusionPipeline

        folder = context.artifacts["generator"]
        pipeline = DiffusionPipeline.from_pretrained(
            folder, custom_pipeline=folder, trust_remote_code=True, low_cpu_mem_usage=False
        )
        self.pipeline = pipeline.to("cuda" if torch.cuda.is_available() else "cpu")

    def predict(self, model_input: pandas.DataFrame) -> NDArray[np.uint8]:
        """Return images of shape (n, H, W, C), one for each row; each depends on its own row alone.

        Args:
            model_input: columns `label` (index of the class), or `prompt`, and `seed`.
        """
        column, argument = ("prompt", "prompt") if "prompt" in model_input else ("label", "labels")
        conditions, seeds = model_input[column].tolist(), model_input["seed"].tolist()
        parts = [slice(start, start + BATCH) for start in range(0, len(seeds), BATCH)]
        batches = [self.pipeline(**{argument: conditions[part]}, seeds=seeds[part], output_type="np") for part in parts]
        images: NDArray[np.float32] = np.concatenate([batch.images for batch in batches])
        return np.rint(images * 255).astype(np.uint8)


mlflow.models.set_model(GeneratorModel())
