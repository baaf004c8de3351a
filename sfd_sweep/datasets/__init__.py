"""Real images with class labels, for judging and for pretraining alone: the method itself never reads one.

Only `images` and `sources` import torch: `labels` looks a class up, and `finding` says what a source is and which files
it would read, in a moment.
"""
