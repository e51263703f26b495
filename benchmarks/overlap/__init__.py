"""Copies of evaluation images: pictures, the descriptor's training, what is found of them."""
