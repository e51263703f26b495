"""What is known of a finished dataset: its files, its funnel, what its shards recorded, and the
sets that it was made of. Nothing here changes a set, or draws it."""
