"""Shards to batches: streams, samples, pictures."""
