"""Methods that Score Forgetting Distillation is compared with; each unlearns a distilled one-step generator."""
