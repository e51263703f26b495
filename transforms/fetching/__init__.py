"""The web: URLs to bytes, politely, and from no address that is not public.

The meaning of the bytes is for `images`.
"""
