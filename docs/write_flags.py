"""Writes docs/flags.md from the dataclasses that the flags come from, and the table of reasons in
docs/reasons.md from the catalogue of rules: `make docs`.

`python docs/write_flags.py --check` fails where the page is not current.
"""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from alignset.pipeline.other_flags import IMG2DATASET  # noqa: E402
from alignset.pipeline.settings import GROUPS  # noqa: E402
from alignset.settings import declared_fields  # noqa: E402
from alignset.train.classify.settings import PRESETS as CLASSIFY_PRESETS  # noqa: E402
from alignset.train.classify.settings import ClassifySettings  # noqa: E402
from alignset.train.peer_flags import OPEN_CLIP  # noqa: E402
from alignset.train.presets import PRESETS  # noqa: E402
from alignset.train.settings import Settings, own_first  # noqa: E402
from alignset.transforms.rules.catalogue import PRODUCT  # noqa: E402
from alignset.transforms.rules.columns import COLUMN_FLAGS, column_rules  # noqa: E402
from alignset.transforms.rules.concepts import MAX_PAIRS_PER_CONCEPT  # noqa: E402
from alignset.transforms.rules.given import (  # noqa: E402
    AFTER_RUN,
    BEYOND_LANGUAGE_SIZE,
    OF_FAILED_IMAGE_RULES,
    OF_FAILED_TEXT_RULES,
)

TINY = {Settings: PRESETS["tiny"], ClassifySettings: CLASSIFY_PRESETS["tiny"]}
PAGE = ROOT / "docs" / "flags.md"
REASONS_PAGE = ROOT / "docs" / "reasons.md"
HEAD_OF_REASONS = "| step | reason | the pair was dropped because | detail |\n|---|---|---|---|\n"
BEGIN = """\
# Flags

This page lists the flags of the three commands that have settings. `make docs` writes it from the
dataclasses that define the flags, and a test fails when it is not current. Pass a flag as
`--name=value` or `--name value`; a flag that is true or false may also
stand alone (`--text_only`). `--help` shows the most used flags, and `--help=all` every flag.

- `alignset curate` makes a dataset. Any flag that is not listed here is Apache Beam's, such as
  `--runner` and `--direct_num_workers`.
- `alignset train` trains. `--shards` says where the data is, and `--run` names the run's folder.
- `alignset classify` fine-tunes an image tower on labelled images. `--model`, `--images` and
  `--validation` say on what, and `--run` names its folder.
- For both, `--preset` chooses a group of defaults. It is `tiny` by default. The tables below show
  the defaults of `tiny` and, beside them, the values of the paper; `--help=all` has every preset.
- `--help` lists the few flags of `alignset ablate`, `evaluate`, `search` (whose commands have a
  `--help` of their own), `look`, `report`, `takedown` and `deduplicate`.
"""
FROM_IMG2DATASET = """
## From img2dataset's flags to ours
The left column is a flag of img2dataset 1.47 that has another name or none here; the right one says
what to pass in its place. The command says the same where such a flag is passed. The flags
`--input_format`, `--retries`, `--user_agent_token`, `--disallowed_header_directives`,
`--verify_hash` and the resizing flags (`--image_size`, `--resize_mode`, `--encode_format` ...) are
img2dataset's own.

| img2dataset | here |
|---|---|
"""
FROM_OPEN_CLIP = """
## From open_clip's flags to ours
The left column is a flag of open_clip 3.3's training, with `_` for `-`, that has another name or
none in `alignset train`. The command says the same where such a flag is passed. `--epochs`,
`--batch_size` (of all processes together), `--precision`, `--seed`, `--beta1` and `--beta2` have
the same names.

| open_clip | here |
|---|---|
"""


def rows(kind: type) -> Iterator[str]:
    """Yields a line of the table for each field of a settings dataclass."""
    for field in own_first(kind) if kind in TINY else declared_fields(kind):
        meaning = field.metadata["help"].replace("|", "\\|")
        values = " | ".join(shown(value) for value in defaults(kind, field))
        yield f"| `--{field.name}` | {values} | {meaning} |"


def defaults(kind: type, field: dataclasses.Field[object]) -> list[object]:
    """Returns the default of a flag; of a preset's flag, the value of `tiny` and the paper's."""
    tiny = TINY.get(kind)
    return [getattr(tiny, field.name), field.default] if tiny else [field.default]


def shown(value: object) -> str:
    return f"`{value}`" if str(value) else "(empty)"


def page() -> str:
    parts = [BEGIN]
    tables = [(f"`alignset curate`: {title}", kind) for title, kind in GROUPS.items()]
    tables.append(("`alignset train`", Settings))
    tables.append(("`alignset classify`", ClassifySettings))
    for title, kind in tables:
        values = ["default", "paper"] if kind in TINY else ["default"]
        head = ["flag", *values, "meaning"]
        parts.append(f"\n## {title}\n| {' | '.join(head)} |\n{'|---' * len(head)}|\n")
        parts.append("\n".join(rows(kind)) + "\n")
    for begin, peers in ((FROM_IMG2DATASET, IMG2DATASET), (FROM_OPEN_CLIP, OPEN_CLIP)):
        rows_of_peers = (f"| `--{flag}` | {here} |\n" for flag, here in peers.items())
        parts += [begin, *rows_of_peers]
    return "".join(parts)


def reasons() -> str:
    """docs/reasons.md with the reasons out of the catalogue of rules."""
    before, head, rest = REASONS_PAGE.read_text().partition(HEAD_OF_REASONS)
    after = rest[rest.index("\n\n") :]
    failed = (OF_FAILED_TEXT_RULES, OF_FAILED_IMAGE_RULES)
    of_columns = column_rules({f"{flag}=NAME": 1 for flag in COLUMN_FLAGS} | {"verify_hash": "-"})
    sized = (BEYOND_LANGUAGE_SIZE, MAX_PAIRS_PER_CONCEPT)
    entries = (*PRODUCT.texts, *PRODUCT.images, *sized, *of_columns, *failed, *AFTER_RUN)
    lines = [f"| `{e.step}` | `{e.reason}` | {e.means} | {e.detail} |" for e in entries]
    lines = [*dict.fromkeys(lines)]  # a rule of the product may compute its measure, and fail
    return before + head + "\n".join(lines) + after


def main() -> int:
    check, stale = "--check" in sys.argv[1:], []
    for path, current in ((PAGE, page()), (REASONS_PAGE, reasons())):
        if path.exists() and path.read_text() == current:
            continue
        stale.append(path.name)
        if not check:
            path.write_text(current)
    if check and stale:
        print(f"docs/{', docs/'.join(stale)}: not current; make docs writes it", file=sys.stderr)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
