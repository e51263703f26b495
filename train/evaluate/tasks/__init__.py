"""A file for each task of `alignset evaluate`: what it reads, computes and says."""
