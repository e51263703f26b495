"""The project's command, `alignset NAME`."""

import difflib
import importlib
import os
import sys
from collections.abc import Callable

from alignset.signals import run_main

# The module of alignset whose `main`, or the function behind the colon, does it, and what it does.
# A module is imported where it is asked for: Beam takes a second, and torch three.
COMMANDS = {
    "demo": ("demo.__main__", "the whole story on a small web of its own, in minutes"),
    "curate": ("beam_runner", "image URLs with alt-texts in, filtered WebDataset shards out"),
    "grow": ("beam_runner:grow", "add another crawl to a dataset, by its own rules"),
    "cluster": ("flink.__main__", "run Flink on this machine or many, for curate to run on"),
    "rules": ("pipeline.commands:rules", "list the rules of curate, and rules of your own"),
    "look": (
        "pipeline.commands:look",
        "show some kept or dropped pairs of a dataset: a page and a table",
    ),
    "ablate": ("ablate.__main__", "train on variants of the rules: which of them help"),
    "report": (
        "pipeline.commands:report",
        "write report.html of a dataset, or compare two datasets",
    ),
    "takedown": ("pipeline.commands:takedown", "take listed pairs out of a finished dataset"),
    "recheck": (
        "pipeline.commands:recheck",
        "ask the hosts of a dataset again: who has opted out since",
    ),
    "deduplicate": ("pipeline.commands:deduplicate", "keep each image of a finished dataset once"),
    "audit": ("pipeline.commands:audit", "judge opt-outs again by the evidence that was kept"),
    "card": (
        "pipeline.commands:card",
        "write the EU's public summary of training content of a dataset",
    ),
    "verify": ("pipeline.commands:verify", "tell which files of a dataset are damaged"),
    "publish": (
        "pipeline.commands:publish",
        "copy what may be published of a finished dataset to a folder",
    ),
    "train": ("train.__main__", "train an ALIGN model on shards"),
    "classify": ("train.classify.__main__", "fine-tune an image tower on labelled images"),
    "evaluate": ("train.evaluate.__main__", "measure what a model is worth"),
    "embed": ("train.search.embed", "write the embeddings of images as Parquet or npy"),
    "export": ("train.export", "write a model's towers as ONNX, TorchScript, safetensors"),
    "search": ("train.search.__main__", "find images by text and by image, on a page too"),
}
# For bash. The flags of a command are asked for once a shell.
COMPLETION = """\
declare -A _alignset_flags
_alignset() {
  local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]}
  if [[ $COMP_CWORD == 1 ]]; then
    COMPREPLY=($(compgen -W "COMMANDS" -- "$word"))
  elif [[ $word == --* ]]; then
    if [[ -z ${_alignset_flags[$command]} ]]; then
      _alignset_flags[$command]=$(
        { alignset "$command" --help=all || alignset "$command" --help; } 2>/dev/null |
          grep -o -- '^  --[a-z0-9_]*')
    fi
    COMPREPLY=($(compgen -W "${_alignset_flags[$command]}" -- "$word"))
  fi
}
complete -o default -F _alignset alignset"""


def overview() -> str:
    """The commands, a line each."""
    lines = [f"  {name:<11} {does}" for name, (_, does) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: alignset COMMAND [flags]",
            "",
            *lines,
            "",
            "alignset COMMAND --help shows the flags of a command, alignset --version the version.",
            "For completion in bash:",
            'eval "$(alignset --completion)"',
        ]
    )


def command_of(name: str) -> Callable[..., int]:
    """The function of a command; imports its module."""
    module, _, function = COMMANDS[name][0].partition(":")
    command: Callable[..., int] = getattr(
        importlib.import_module(f"alignset.{module}"), function or "main"
    )
    return command


def _show(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # head, or whoever read it, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> int:
    """Runs the command that the command line names; returns its exit status."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        _show(overview())
        return 0
    if name == "--version":
        from alignset.version import version

        _show(f"alignset {version()}")
        return 0
    if name == "--completion":
        _show(COMPLETION.replace("COMMANDS", " ".join(COMMANDS)))
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        print(f"alignset: there is no command {name!r}; {hint}", file=sys.stderr)
        return 2
    for word in arguments:
        try:
            word.encode()
        except UnicodeEncodeError:  # the documents of a dataset are UTF-8, and name what it is of
            print(f"alignset {name}: {word!r} is not UTF-8; rename that file", file=sys.stderr)
            return 2
    # The module is imported within, so that a package that it lacks is one line.
    return run_main(
        lambda words, called: command_of(name)(words, called), f"alignset {name}", arguments
    )


if __name__ == "__main__":
    sys.exit(main())
