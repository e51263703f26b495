"""The image tower fine-tuned on labelled images: `alignset classify`.

Scores of a model that is not trained further are in `evaluate`.
"""
