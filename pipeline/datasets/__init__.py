"""Facts about a finished dataset: its files, its funnel, its shards' records, and its source
datasets. Nothing here changes a dataset, or draws it."""
