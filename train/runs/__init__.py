"""One run: its folder, checkpoints, progress, processes, flags. Not what is learned in it."""
