"""Real images with class labels, and prompts in files. The method itself reads no image: evaluation and pretraining do.

`finding` says what a source is and which files it would read; `sources` loads it. Only `images` and `sources` import
torch.
"""
