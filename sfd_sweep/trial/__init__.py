"""Trial execution: build a trial from its settings, train it to the next evaluation, save and resume it.

Imports neither Ray nor MLflow, so that a trial also runs in a plain loop.
"""
