"""What a model is evaluated on: images with captions, with classes, with masks; pairs of words."""
