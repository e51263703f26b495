"""The rules by which pairs are dropped: a file each, in the order of `catalogue.py`. What a rule
judges is measured elsewhere, and what becomes of its verdict is for others to say."""
