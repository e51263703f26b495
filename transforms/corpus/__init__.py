"""Counts over all pairs, the sets made of them, and the reading that asks the rules of texts. What
a pair has by itself is measured in `pairs`, and what is dropped for it is in `rules`.
"""
