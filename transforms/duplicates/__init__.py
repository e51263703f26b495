"""Which images of a dataset are there more than once, and which of their pairs leave. Copies of
evaluation images are in `decontamination`.
"""
