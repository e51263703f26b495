"""Which images of a dataset are there more than once, and which of their pairs leave. What is near
an evaluation image is for `decontamination` to say.
"""
