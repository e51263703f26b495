"""What a model is worth: `python -m train.evaluate TASK`. No model is trained here."""
