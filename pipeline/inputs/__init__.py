"""What the command reads: which files, in which splits, and their rows. Not what comes of them."""
