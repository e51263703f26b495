"""One pair, looked at alone: its URL, its text, its language.

Rules that need other pairs are in `corpus`.
"""
