"""The optimizer: which parameters decay, and LAMB."""
