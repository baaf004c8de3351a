"""Evaluation of generators: distances of retained conditions to reference images, and forgetting of the others."""
