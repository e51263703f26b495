"""A picture by its URL, through the pipeline's fetcher, which no private address passes.

It is a command of its own, `python -m alignset.pipeline.fetch_image URL`, since this package does
not import the pipeline.
"""

import subprocess
import sys

from alignset.train.errors import SettingsError

COMMAND = (sys.executable, "-m", "alignset.pipeline.fetch_image")
_LONGEST_S = 120  # the fetcher ends by itself before


def fetched_image(url: str) -> bytes:
    """The bytes of a picture.

    Raises:
      SettingsError: it cannot be fetched, or is at an address that is not public.
    """
    try:
        done = subprocess.run(
            [*COMMAND, "--", url], capture_output=True, check=False, timeout=_LONGEST_S
        )
    except subprocess.TimeoutExpired as error:
        raise SettingsError(f"{url[:200]} did not come within {_LONGEST_S} s") from error
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise SettingsError(lines[-1].removeprefix("error: "))
    return done.stdout
