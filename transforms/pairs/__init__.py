"""One pair, looked at alone: its URL, its text, its language.

What needs other pairs is in `corpus`.
"""
