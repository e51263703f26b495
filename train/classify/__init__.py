"""The image tower fine-tuned on labelled images: `python -m train.classify`."""
