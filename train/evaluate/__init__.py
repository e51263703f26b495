"""What a model is worth: `alignset evaluate TASK`. No model is trained here."""
