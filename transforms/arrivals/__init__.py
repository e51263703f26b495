"""The images of a shard as they come: fetched or read, looked at, put aside, scored, compared.

Each step fills columns of `images.py`; `shards` makes files from them. How an image is fetched is
for `fetching` to say, and what it is, for `images`.
"""
