"""Files that appear whole or not at all, on any file system, and what is read of them by place.
Nothing here knows what is in them."""
