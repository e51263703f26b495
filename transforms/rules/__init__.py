"""The rules by which pairs are dropped: a file each, in the order of `catalogue.py`. Other packages
measure what a rule judges, and apply its verdict.
"""
