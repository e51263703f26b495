"""What a model is worth: `python -m train.evaluate TASK`. Nothing is trained here."""
