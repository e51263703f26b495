"""The parts, by rooms: pure functions over Arrow columns, and the Beam transforms that carry them.

A package may import the packages above it in the table of tests/lint/architecture.py, and none
below.
"""
