"""Lists of what must not be in a set: how they are read, compiled to files that workers map, and
asked. What becomes of a pair that is on one is for others to say.
"""
