"""What this process knows of the files in which hosts state opt-outs."""

from alignset.transforms.fetching.host_files import FILES


def forget_host_files() -> None:
    """Lets each file be requested again, as on another day."""
    for file in FILES.values():
        file.cache.clear()
