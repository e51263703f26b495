"""Evaluation data: images with captions, with classes, with masks; pairs of words."""
