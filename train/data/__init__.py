"""Shards to batches: streams, samples, pictures. Nothing here knows of a model."""
