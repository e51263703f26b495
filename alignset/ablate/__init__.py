"""Which rules help on some data: curates it once, trains a small model per variant, compares.

Runs the commands of the product, as a user would; holds no rule and no training of its own.
"""
