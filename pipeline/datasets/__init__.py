"""Facts about a finished dataset: its files, its numbers, and its source datasets. Nothing here
changes a dataset, or draws it."""
