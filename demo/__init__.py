"""A small web whose truth is known, and the whole story told on it.

Nothing here imports `pipeline`, `transforms` or `train`: the demo runs their commands as a user
would, and its truth is worked out a second time, in plain Python.
"""
