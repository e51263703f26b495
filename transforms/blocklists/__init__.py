"""Blocklists: reading, compiling to files that workers map, and lookup. Not what becomes of a pair
on a list.
"""
