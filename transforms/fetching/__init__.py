"""The web: URLs to bytes, politely, and from no address that is not public.

What the bytes are is for `images` to say.
"""
