"""A file for each task of `python -m train.evaluate`: what it reads, computes and says."""
