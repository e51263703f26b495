"""Pairs taken out of a finished set: `python -m pipeline.takedown OUT --blocklist=FILE`. Nothing is
fetched here, and nothing is judged by another rule.
"""
