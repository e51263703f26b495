"""Fetches one image and writes its bytes to standard output.

It is fetched as those of a run are: from no address that is not public, after each redirect anew,
within bounds of time and bytes. Commands of other packages get their images by it.
"""

import sys
from collections.abc import Sequence

from alignset.pipeline.command_line import CommandParser, run_command
from alignset.transforms.fetching.fetch import fetch_all
from alignset.transforms.fetching.fetch_settings import FetchSettings

NAME = "python -m alignset.pipeline.fetch_image"
_HINTS = {
    "forbidden_address": "its host is at an address that is not public: save the image and give "
    "its file",
    "bad_url": "it is not a URL of http or https",
    "too_large": "it has more than 20 MB",
    "dns": "its host has no address: is the name right?",
}


def main(argv: Sequence[str], name: str = NAME) -> int:
    """Runs the command; returns 0 done, 1 failed, 2 wrong flags."""
    parser = CommandParser(prog=name, description=str(__doc__).partition("\n")[0])
    parser.add_argument("url", metavar="URL")
    parser.add_argument(
        "--allow_private_addresses",
        action="store_true",
        help="fetch from loopback and private addresses too",
    )
    flags = parser.parse_args(list(argv))
    settings = FetchSettings(
        timeout_s=20.0,
        shard_timeout_s=60.0,
        retries=1,
        max_retry_after_s=5.0,
        allow_private_addresses=flags.allow_private_addresses,
    )
    (fetched,) = fetch_all([flags.url], settings)
    if fetched.body is None:
        why = _HINTS.get(str(fetched.detail), "pass another URL, or the image's file")
        print(
            f"error: {flags.url[:200]!r} cannot be fetched ({fetched.detail}): {why}",
            file=sys.stderr,
        )
        return 1
    sys.stdout.buffer.write(fetched.body)
    return 0


def stoppable_main(argv: Sequence[str], name: str = NAME) -> int:
    """`main` in a process that a signal ends within 5 s."""
    return run_command(lambda: main(argv, name), name)


if __name__ == "__main__":
    sys.exit(stoppable_main(sys.argv[1:]))
