"""Evaluation of a model: `alignset evaluate TASK`. No model is trained here."""
