"""Writes docs/flags.md from the dataclasses that the flags come from, the table of filters in
docs/filters.md from the catalogue of rules, the tasks in docs/evaluation.md, and the memory of
training's presets in docs/train.md: `make docs`.

`python docs/write_flags.py --check` fails where the page is not current.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import wrap

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from alignset.pipeline.other_flags import IMG2DATASET  # noqa: E402
from alignset.pipeline.settings import GROUPS  # noqa: E402
from alignset.settings import declared_fields  # noqa: E402
from alignset.train.evaluate.task_table import TASKS  # noqa: E402
from alignset.train.presets import PRESETS  # noqa: E402
from alignset.train.runs.flags import OPEN_CLIP  # noqa: E402
from alignset.train.settings import Settings, ordered_fields  # noqa: E402
from alignset.train.start import step_bytes  # noqa: E402
from alignset.transforms.rules.catalogue import PRODUCT, Catalogue  # noqa: E402
from alignset.transforms.rules.columns import OF_ANY_COLUMN, column_rules  # noqa: E402
from alignset.transforms.rules.given import AFTER_RUN, OF_FAILED_IMAGE_RULES, OF_FAILED_TEXT_RULES  # noqa: E402
from alignset.transforms.rules.personal_data import MAX_PERSONAL_DATA  # noqa: E402
from alignset.transforms.rules.rule import Reason, Rule  # noqa: E402
from alignset.transforms.rules.rule_settings import RuleSettings  # noqa: E402
from alignset.transforms.rules.thresholds import MAX_PAIRS_PER_CONCEPT  # noqa: E402

TINY = {Settings: PRESETS["tiny"]}
PAGE = ROOT / "docs" / "flags.md"
FILTERS_PAGE = ROOT / "docs" / "filters.md"
TASKS_PAGE = ROOT / "docs" / "evaluation.md"
MEMORY_PAGE = ROOT / "docs" / "train.md"
HEAD_OF_TASKS = "| task | what it measures | numbers |\n|---|---|---|\n"
HEAD_OF_FILTERS = (
    "| step | reason | a pair is dropped because | flag (default) |\n" + "|---" * 4 + "|\n"
)
HEAD_OF_MEMORY = (
    "| preset | batch | micro-batch | memory | with `--checkpoint_activations` "
    "| micro-batch in 24 GB | in 80 GB |\n|---|---|---|---|---|---|---|\n"
)
SHOWN = ("tiny", "laptop", "one-gpu", "b1-mini", "b3-medium", "b5-base", "b7-base", "l2-large")
BEGIN = """\
# Flags

Each flag of `alignset curate`, and the first of `train`, with defaults. `make docs` writes this
page. `--text_only` alone means true. `--help` shows the most used flags of a command, `--help=all`
all. Any other flag of `alignset curate` is Apache Beam's.
"""
OF_RULES = """\
[Filters](filters.md#steps-and-reasons) has the thresholds, such as `--min_words=3`.

"""
OF_TRAIN = """\
`--shards` names the data and `--output` the run's folder. Defaults are the preset `tiny`'s, with
the paper's values in brackets. `--help=all` shows the other flags and presets, and
`alignset classify --help=all` the flags of that command.

"""
# The flags of a training run that users want first.
FIRST_OF_TRAIN = (
    *("start_from", "image_tower", "text_tower", "image_weights", "text_weights", "freeze"),
    *("tokenizer", "max_tokens", "crop_px", "caption_field", "learning_rate", "warmup_steps"),
    *("steps", "epochs", "batch_size", "micro_batch_size", "precision", "validate"),
    *("checkpoint_activations", "trackers"),
)
THRESHOLDS = {rule.name for rule in (*PRODUCT.rules, MAX_PAIRS_PER_CONCEPT, MAX_PERSONAL_DATA)}
FROM_IMG2DATASET = """
## From img2dataset's flags to ours
Flags of img2dataset 1.47 with another name here; the command says the same.

"""
FROM_OPEN_CLIP = """
## From open_clip's flags to ours
Flags of open_clip 3.3's training, with `_` for `-`, that have another name in `alignset train`.
`--batch_size` is of all processes.

"""


def items(kind: type) -> Iterator[str]:
    """Yields an item of the list for each field of a settings dataclass."""
    tiny = TINY.get(kind)
    for of in ordered_fields(kind) if tiny else declared_fields(kind):
        if kind is RuleSettings and of.name in THRESHOLDS:
            continue
        if tiny and of.name not in FIRST_OF_TRAIN:
            continue
        default = getattr(tiny, of.name) if tiny else of.default
        flag = f"--{of.name}" + f"={default}" * (default != "" and default is not False)
        paper = f" (`{of.default}`)" * (default != of.default)
        yield _item(f"`{flag}`{paper}: {of.metadata['help']}")


def _item(text: str) -> str:
    """An item of a list, in lines of at most 100 characters."""
    lines = wrap(f"- {text}", 100, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def page() -> str:
    parts = [BEGIN]
    tables = [(f"`alignset curate`: {title}", kind) for title, kind in GROUPS.items()]
    for title, kind in tables:
        begin = OF_RULES if kind is RuleSettings else ""
        parts += [f"\n## {title}\n", begin, *items(kind)]
    parts += ["\n## `alignset train`\n", OF_TRAIN, *items(Settings)]
    for begin, peers in ((FROM_IMG2DATASET, IMG2DATASET), (FROM_OPEN_CLIP, OPEN_CLIP)):
        flags: dict[str, list[str]] = {}
        for flag, here in peers.items():
            flags.setdefault("" if here.startswith("nothing") else here, []).append(f"`--{flag}`")
        alone = f"None here, and the command says why: {', '.join(flags.pop(''))}."
        parts += [begin, *(_item(f"{', '.join(own)}: {here}") for here, own in flags.items())]
        parts += ["\n", "\n".join(wrap(alone, 100, break_on_hyphens=False)), "\n"]
    return "".join(parts)


def filters() -> str:
    """docs/filters.md with the filters out of the catalogue of rules, in the order of a run."""
    before, head, rest = FILTERS_PAGE.read_text().partition(HEAD_OF_FILTERS)
    after = rest[rest.index("\n\n") :]
    failed = (OF_FAILED_TEXT_RULES, OF_FAILED_IMAGE_RULES)
    of_columns = column_rules(OF_ANY_COLUMN | {"verify_hash": "-"})
    every = Catalogue(custom=(MAX_PERSONAL_DATA,), is_balanced=True, columns=of_columns)
    entries = (*every.texts, *every.images, *failed, *AFTER_RUN)
    entries = sorted(entries, key=lambda of: (of in AFTER_RUN, of.stage))
    lines = [*dict.fromkeys(map(_filter_line, entries))]  # a rule may fail in two stages
    return before + head + "\n".join(lines) + after


def _filter_line(of: Reason) -> str:
    """A filter's line of the table."""
    means = f"{of.means}; detail: {of.detail}" if of.detail else of.means
    flag = ""
    if isinstance(of, Rule):
        default = "off" if of.is_off(of.default) else f"{of.default:,}"
        paper = f"; paper, {of.source}" if of.source else ""
        flag = f"`--{of.name}`{'' if '=' in of.name else f' ({default}{paper})'}"
    return f"| `{of.step}` | `{of.reason}` | {means} | {flag} |"


def tasks() -> str:
    """docs/evaluation.md with the tasks out of their table."""
    before, head, rest = TASKS_PAGE.read_text().partition(HEAD_OF_TASKS)
    rows = [f"| `{name}` | {own.does} | {own.numbers} |" for name, own in TASKS.items()]
    return before + head + "\n".join(rows) + rest[rest.index("\n\n") :]


def memory() -> str:
    """docs/train.md with the memory of the presets, by the bound that a run's start checks."""
    before, head, rest = MEMORY_PAGE.read_text().partition(HEAD_OF_MEMORY)
    rows = []
    for name in SHOWN:
        preset = PRESETS[name]
        settings = replace(preset, precision=preset.precision.replace("auto", "bf16"))
        once, of_pair = step_bytes(settings, 1)
        least, less = step_bytes(replace(settings, checkpoint_activations=True), 1)
        pairs = settings.micro_batch_size
        sizes = [2**n for n in range(4, 15) if 2**n <= settings.batch_size]
        fit = [[n for n in sizes if once + n * of_pair <= gb * 1e9] for gb in (24, 80)]
        cells = [f"{settings.batch_size:,}", pairs, f"{(once + pairs * of_pair) / 1e9:.1f} GB"]
        cells += [f"{(least + pairs * less) / 1e9:.1f} GB"]
        cells += [f"{n[-1]:,}" if n else "none" for n in fit]
        rows.append(f"| `{name}` | {' | '.join(map(str, cells))} |")
    return before + head + "\n".join(rows) + rest[rest.index("\n\n") :]


def main() -> int:
    check, stale = "--check" in sys.argv[1:], []
    pages = (
        (PAGE, page()),
        (FILTERS_PAGE, filters()),
        (TASKS_PAGE, tasks()),
        (MEMORY_PAGE, memory()),
    )
    for path, current in pages:
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
