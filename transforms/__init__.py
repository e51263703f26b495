"""Packages of pure functions over Arrow columns, and of the Beam transforms that carry them."""
