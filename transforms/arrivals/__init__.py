"""The images of a shard as they come: fetched or read, looked at, put aside, scored, compared.

How an image is fetched is for `fetching` to say, and what it is, for `images`. What each step finds
stands in the columns of `images.py`; the files of the shard are made from them in `shards`.
"""
