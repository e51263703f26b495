"""Shards to batches: streams, samples, images. Nothing here knows of a model."""
