"""Real images with class labels, for judging and for pretraining alone: the method itself never reads one.

`labels` imports no torch, so that names of classes can be looked up in a moment; neither does this file.
"""
