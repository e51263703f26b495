"""The parts: pure functions over Arrow columns, and the Beam transforms that carry them."""
