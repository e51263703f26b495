"""One image: its format, size and hash, why it is of no use, and how it is resized."""
