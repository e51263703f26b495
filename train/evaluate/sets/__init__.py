"""Evaluation data: images with captions, and images with classes."""
