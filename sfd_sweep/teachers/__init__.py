"""Making models: pretraining, distillation without forgetting, classifier training, checkpoint imports."""
