"""The image tower fine-tuned on labelled images: `alignset classify`."""
