"""Pairs taken out of a finished dataset: `alignset takedown OUT --blocklist=FILE`. Nothing is
fetched here, and nothing is judged by another rule.
"""
