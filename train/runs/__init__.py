"""One run: its folder, checkpoints, progress, processes, flags."""
