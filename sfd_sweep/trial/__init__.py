"""What a slot runs: build a trial from its settings, advance it to the next evaluation, save and load it.

It knows the method and the judge, but neither Ray nor MLflow: it runs in a plain loop too.
"""
