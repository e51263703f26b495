"""What the command reads: which files, in which splits, and their rows."""
