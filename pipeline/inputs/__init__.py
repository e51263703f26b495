"""Input of the command: files, splits and rows. Not what becomes of them."""
