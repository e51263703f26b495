"""Counts over all pairs, the sets made of them, and the verdicts that need them.

The verdicts on texts are all here, those by their number of words too. What a pair has by itself is
measured in `pairs`.
"""
