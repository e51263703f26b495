"""Counts over all pairs, the sets made of them, and the verdicts that need them."""
