"""Settings of all tests."""

from hypothesis import settings

# Without a deadline: the first call of a kernel compiles it.
settings.register_profile("alignset", deadline=None, print_blob=True)
settings.load_profile("alignset")
