"""python -m alignset.train.search index --model=RUN/model --data=OUT/shards --output=INDEX
python -m alignset.train.search query INDEX --text "a dog" --text snow 0.5 --image cat.jpg -1
python -m alignset.train.search serve INDEX

`COMMAND --help` lists the flags of a command.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from alignset.signals import run_main
from alignset.train.errors import SettingsError
from alignset.train.runs.flags import Parser, exit_status, local_folder, whole_text

NAME = "python -m alignset.train.search"
_STOPPED = "stopped; an index that was being made is what it was before"
_MODEL = (
    "a run's folder, a saved or published AlignModel, CLIPModel or SiglipModel, or "
    "open_clip:NAME@WEIGHTS"
)
_TERMS = {
    "text": "a text",
    "image": "an image: a path, or a URL, which is fetched as the pipeline fetches",
    "key": "an image of the index, by the key that a result has",
}


def main(arguments: list[str], name: str = NAME) -> int:
    def command() -> int:
        flags = parser(name).parse_args(arguments)
        # Only when the flags are right: torch and faiss take seconds.
        if flags.command == "query":
            flags.terms = _terms(flags)
            from alignset.train.search.query import run_query as run
        elif flags.command == "serve":
            from alignset.train.search.serve import run_serve as run
        else:
            from alignset.train.search.index_files import run_index as run
        try:
            return run(flags)
        except KeyboardInterrupt:
            if flags.command == "serve":  # it is how a server ends
                return 0
            raise

    return exit_status(command, stop_message=_STOPPED)


def parser(name: str = NAME) -> Parser:
    """The parser of all commands' flags."""
    commands_parser = Parser(prog=name, description=str(__doc__).replace(NAME, name))
    commands = commands_parser.add_subparsers(
        dest="command", required=True, metavar="index|query|serve", parser_class=Parser
    )
    add = commands.add_parser("index", help="make an index, in place of the one there").add_argument
    add("--model", required=True, help=_MODEL)
    add("--data", required=True, help="shards, as train's --shards, or a folder of images")
    add("--output", "--index", required=True, type=local_folder, dest="index", metavar="FOLDER")
    add("--batch_size", type=_positive, default=32, help="images at once, on each GPU (32)")
    add("--thumbnail_px", type=_positive, default=256, help="longer side of thumbnails (256)")
    add("--threads", type=_positive, default=os.cpu_count() or 1, help="that decode (all cores)")
    made = Parser(add_help=False)
    made.add_argument("index", type=Path, metavar="INDEX")
    made.add_argument("--model", help="where it lies now (by default where it lay for the index)")
    nearest = "print what is nearest to a query"
    add = commands.add_parser("query", help=nearest, parents=[made]).add_argument
    for kind, meaning in _TERMS.items():
        add(
            f"--{kind}",
            nargs="+",
            action="append",
            default=[],
            type=whole_text if kind == "text" else str,
            metavar=(kind.upper(), "WEIGHT"),
            help=f"{meaning}, with a weight, which may be negative (1); may be given again",
        )
    add("--n", type=_positive, default=10, help="results, at most 1000 (10)")
    add("--host", type=whole_text, default="", help="of this host, or one below it")
    caption = "whose caption contains this"
    add("--caption", type=whole_text, default="", metavar="PART", help=caption)
    add("--min_side", type=int, default=0, help="px of the shorter side, at least")
    add("--max_side", type=int, default=0, help="px of the shorter side, at most")
    add("--safe", action="store_true", help="without what was scored unsafe")
    add("--all", action="store_true", help="do not fold duplicates into one result")
    formats = "auto: a table, or lines of JSON in a pipe"
    add("--format", choices=("auto", "table", "json"), default="auto", help=formats)
    add = commands.add_parser("serve", help="serve the page", parents=[made]).add_argument
    address = "the address to listen on (127.0.0.1: this machine alone)"
    add("--host", default="127.0.0.1", help=address)
    add("--port", type=int, default=8080, help="0: a free one (8080)")
    path = "where a proxy has the page, such as /pics (its own name alone)"
    add("--root_path", default="", metavar="PATH", help=path)
    return commands_parser


def _terms(flags: argparse.Namespace) -> list[tuple[str, str, float]]:
    """(kind, value, weight) of each term of a query."""
    terms = []
    for kind in _TERMS:
        for value, *weights in getattr(flags, kind):
            try:
                terms.append((kind, value, float(*weights) if weights else 1.0))
            except (TypeError, ValueError):
                raise SettingsError(
                    f"--{kind} takes a value and a weight, as in --{kind} {value!r} 0.5; got "
                    f"{' '.join([value, *weights])!r}: put a text of several words in quotes"
                ) from None
    return terms


def _positive(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more; got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
