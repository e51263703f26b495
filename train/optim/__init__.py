"""The optimizer: which parameters decay, and LAMB. Not how a gradient is made."""
