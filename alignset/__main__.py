"""The project's command, `alignset NAME`: each NAME does what its `python …` form does."""

import difflib
import importlib
import os
import sys

from alignset.signals import run_main

# The module of alignset whose `main` does it, and what it does. A module is imported where it is
# asked for: Beam takes a second, and torch three.
COMMANDS = {
    "demo": ("demo.__main__", "the whole story on a small web of its own, in minutes"),
    "curate": ("beam_runner", "image URLs with alt-texts in, filtered WebDataset shards out"),
    "look": (
        "pipeline.look.__main__",
        "show some kept or dropped pairs of a dataset: a page and a table",
    ),
    "ablate": ("ablate.__main__", "train on variants of the rules: which of them help"),
    "report": (
        "pipeline.report.__main__",
        "write report.html of a dataset, or compare two datasets",
    ),
    "takedown": ("pipeline.takedown.__main__", "take listed pairs out of a finished dataset"),
    "deduplicate": ("pipeline.deduplicate.__main__", "keep each image of a finished dataset once"),
    "publish": ("pipeline.publish", "copy what may be published of a finished dataset to a folder"),
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
        lambda words, called: importlib.import_module(f"alignset.{COMMANDS[name][0]}").main(
            words, called
        ),
        f"alignset {name}",
        arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
