"""Rows in general: their hashes, the names of their columns, and how batches of them cross the
wire. Nothing here knows what a row is about."""
