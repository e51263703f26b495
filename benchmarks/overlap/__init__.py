"""Copies of evaluation images: images, the descriptor's training, what is found of them."""
