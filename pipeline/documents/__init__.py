"""The documents that close a run: card, Croissant, funnel, manifest. They add up what is
known of the dataset, and count nothing else."""
