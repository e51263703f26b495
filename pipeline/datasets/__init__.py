"""Facts about a finished dataset: its files, its numbers, its source datasets, and the sentences
on it. Nothing here changes a dataset, or draws it."""
