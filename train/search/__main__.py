"""python -m alignset.train.search index --model=RUN/model --data=OUT/shards --index=INDEX
python -m alignset.train.search query INDEX --text "a dog" --text snow 0.5 --image cat.jpg -1
python -m alignset.train.search serve INDEX
python -m alignset.train.search remove INDEX --blocklist=FILE

`COMMAND --help` tells of the flags of a command.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from alignset.stoppable import run_stoppable
from alignset.train.errors import SettingsError
from alignset.train.runs.flags import Parser, exit_status, local_folder, whole_text

NAME = "python -m alignset.train.search"
_STOPPED = "stopped; an index that was being made goes on by the same command"


def main(arguments: list[str], name: str = NAME) -> int:
    try:
        return exit_status(lambda: _run(arguments, name))
    except Stopped:
        print(_STOPPED, file=sys.stderr)
        return 130


def stoppable_main(arguments: list[str], name: str = NAME) -> int:
    def command() -> int:
        status = main(arguments, name)
        if status == 130:  # it has said so, and would say it again where its threads outlast it
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        return status

    return run_stoppable(command, stopped=_STOPPED, stopped_status=130)


def parser(name: str = NAME) -> Parser:
    """The parser of all commands' flags."""
    made = Parser(prog=name, description=str(__doc__).replace(NAME, name))
    commands = made.add_subparsers(
        dest="command", required=True, metavar="index|query|serve|remove", parser_class=Parser
    )
    _add_index(commands.add_parser("index", help="make an index, or add to one"))
    _add_query(commands.add_parser("query", help="print what is nearest to a query"))
    _add_serve(commands.add_parser("serve", help="serve the page"))
    removes = commands.add_parser("remove", help="take rows out of an index, for good")
    removes.add_argument("index", type=Path, metavar="INDEX")
    removes.add_argument("--blocklist", required=True, type=Path, metavar="FILE", help=_BLOCKLIST)
    removes.add_argument("--dry_run", action="store_true", help="only print the keys")
    return made


_BLOCKLIST = (
    "lines such as key:KEY, url:URL, prefix:URL, host:NAME, domain:NAME, md5:HEX, sha1:HEX, "
    "sha256:HEX, as for the takedown from a set; or a set's taken_down.u64"
)
_MODEL = (
    "a run's folder, a saved or published AlignModel, CLIPModel or SiglipModel, "
    "open_clip:NAME@WEIGHTS, or stand-in"
)


def _add_index(flags: Parser) -> None:
    flags.add_argument("--model", required=True, help=_MODEL)
    flags.add_argument(
        "--data", required=True, help="shards, as train's --shards, or a folder of pictures"
    )
    flags.add_argument("--index", required=True, type=local_folder, metavar="FOLDER")
    flags.add_argument("--batch_size", type=_positive, default=32, help="pictures at once (32)")
    flags.add_argument(
        "--thumbnail_px", type=_positive, default=256, help="longer side of thumbnails (256)"
    )
    flags.add_argument(
        "--threads", type=_positive, default=os.cpu_count() or 1, help="that decode (all cores)"
    )


def _add_query(flags: Parser) -> None:
    flags.add_argument("index", type=Path, metavar="INDEX")
    meanings = {
        "text": "a text",
        "image": "a picture: a path, or a URL, which is fetched as the pipeline fetches",
        "key": "a picture of the index, by the key that a result has",
    }
    for kind, meaning in meanings.items():
        flags.add_argument(
            f"--{kind}",
            nargs="+",
            action=_Terms,
            dest="terms",
            metavar=(kind.upper(), "WEIGHT"),
            help=f"{meaning}, with a weight, which may be negative (1); may be given again",
        )
    flags.add_argument("--model", help="where it lies now (by default where it lay for the index)")
    flags.add_argument("--n", type=_positive, default=10, help="results, at most 1000 (10)")
    flags.add_argument("--host", type=whole_text, default="", help="of this host, or one below it")
    flags.add_argument(
        "--caption",
        type=whole_text,
        default="",
        metavar="PART",
        help="whose caption contains this",
    )
    flags.add_argument("--min_side", type=int, default=0, help="px of the shorter side, at least")
    flags.add_argument("--max_side", type=int, default=0, help="px of the shorter side, at most")
    flags.add_argument("--safe", action="store_true", help="without what was scored unsafe")
    flags.add_argument("--all", action="store_true", help="do not fold duplicates into one result")
    flags.add_argument(
        "--format",
        choices=("auto", "table", "json"),
        default="auto",
        help="auto: a table, with pictures where the terminal draws them; lines of JSON in a pipe",
    )


def _add_serve(flags: Parser) -> None:
    flags.add_argument("index", type=Path, metavar="INDEX")
    flags.add_argument("--model", help="where it lies now (by default where it lay for the index)")
    flags.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen on (127.0.0.1: this machine alone)",
    )
    flags.add_argument("--port", type=int, default=8080, help="0: a free one (8080)")
    flags.add_argument(
        "--requests_per_minute",
        type=_positive,
        default=600,
        help="of one address, behind which it gets 429 (600)",
    )
    flags.add_argument(
        "--trusted_proxy",
        default="",
        metavar="ADDRESS",
        help="of a proxy before it, whose X-Forwarded-For tells the address of a request",
    )


class _Terms(argparse.Action):
    """Collects the terms of a query in their order, whichever flags they are given by."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        assert isinstance(values, list)
        kind = str(option_string).removeprefix("--")
        terms = getattr(namespace, self.dest) or []
        try:
            if kind == "text":
                whole_text(values[0])
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from error
        setattr(namespace, self.dest, [*terms, _term(kind, values)])


def _term(kind: str, values: list[str]) -> tuple[str, str, float]:
    value, *weights = values
    try:
        (weight,) = map(float, weights or ["1"])
    except ValueError:
        raise SettingsError(
            f"--{kind} takes a value and a weight, as in --{kind} {value!r} 0.5; got "
            f"{' '.join(values)!r}: put a text of several words in quotes"
        ) from None
    return kind, value, weight


def _positive(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more; got {text!r}")
    return int(text)


class Stopped(BaseException):
    """A signal came; `exit_status` would tell of a run's checkpoints."""


def _run(arguments: list[str], name: str) -> int:
    flags = parser(name).parse_args(arguments)
    try:
        return _run_command(flags)
    except KeyboardInterrupt:
        if flags.command == "serve":  # it is how a server ends
            return 0
        raise Stopped from None


def _run_command(flags: argparse.Namespace) -> int:
    # Only now: torch and faiss take seconds, and a wrong flag should not.
    from alignset.train.search import commands

    if flags.command == "index":
        return commands.run_index(flags)
    if flags.command == "query":
        return commands.run_query(flags)
    if flags.command == "remove":
        return commands.run_remove(flags)
    from alignset.train.search.serve import run_serve

    return run_serve(flags)


if __name__ == "__main__":
    sys.exit(stoppable_main(sys.argv[1:]))
