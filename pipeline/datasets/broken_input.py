"""What is said of input files that cannot be read to their end."""

from __future__ import annotations

from alignset.pipeline.runs.documents import BrokenInput
from alignset.pipeline.shown_texts import on_one_line
from alignset.transforms.storage.broken_files import BrokenFile, BrokenFiles, BrokenInputError

_MOST_TOLD = 20


def render_broken(broken: BrokenInput) -> str:
    """The broken files, some of them by name, whatever bytes these have."""
    named, details = broken.named[:_MOST_TOLD], broken.details.items()
    kinds = ", ".join(f"{count:,} {detail}" for detail, count in details)
    lines = [
        f"{broken.broken:,} of {broken.files:,} input files could not be read to their end, and "
        f"what could not be read was left out: {kinds}"
    ]
    lines += [f"  {_told(file)}" for file in named]
    if left := broken.broken - len(named):
        lines.append(f"  and {left:,} more: rejected/*.parquet, reason broken_input")
    return "\n".join(lines)


def refuse_if_all_broken(broken: BrokenFiles, files: int) -> None:
    """Raises BrokenInputError where none of so many files is whole: a set of remains is none."""
    if broken.broken and broken.broken >= files:
        others = f", nor any of the {broken.broken - 1:,} others" if broken.broken > 1 else ""
        first = broken.named[0]
        raise BrokenInputError(
            f"cannot read {first.path} to its end{others}: {first.fault}; replace the file or give "
            "other input, with another --output"
        )


def _told(file: BrokenFile) -> str:
    return on_one_line(f"{file.path} ({file.detail}: {file.fault})")
