"""Diffusion models: noise schedule, score models over diffusers, samplers, folders and families."""
