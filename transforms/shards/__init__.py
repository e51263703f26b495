"""The image plane: the plan of the shards, their images as they arrive, the verdicts, the files."""
