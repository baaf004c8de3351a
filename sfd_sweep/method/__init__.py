"""Score Forgetting Distillation: losses, the two updates, one-step generators and forgetting tasks."""
