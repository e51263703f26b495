"""A file for each kind of model that embeds images and texts; `train/model/embed.py` opens them."""
