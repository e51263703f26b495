"""The documents that close a run: card, datasheet, Croissant, funnel, manifest. They add up what is
known of the set, and count nothing else."""
