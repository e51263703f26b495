"""The image tower fine-tuned on labelled images: `python -m train.classify`.

Scores of a model that is not trained further are in `evaluate`.
"""
