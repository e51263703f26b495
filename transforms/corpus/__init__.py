"""Counts over all pairs, the hash sets made from the counts, and the pass that applies the text
rules. `pairs` measures a single pair, and `rules` holds the thresholds.
"""
