"""Diffusion models: noise schedule, parameterisations, score models over diffusers, pretraining."""
