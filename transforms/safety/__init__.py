"""One image: its format, size and hash, why it cannot be used, and how it is resized.

Nothing here knows of pairs or thresholds.
"""
