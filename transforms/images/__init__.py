"""One image: its format, size and hash, why it cannot be used, how it is resized, and how a network
is shown it. Nothing here knows of pairs or thresholds.
"""
