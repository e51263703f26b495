"""The dataset card: a README that tells a person, and the Hugging Face Hub, what a dataset is; its
drawing of the funnel; and the sentences by feature of all documents.

Every document takes its sentences from here, so that no document says the opposite of another. This
module finds what is on, and `statements.j2` has the sentences.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from html import escape
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa

from alignset.pipeline.command_line import REMOVAL_REASONS
from alignset.pipeline.datasets.contents import QUANTILES, Contents
from alignset.pipeline.datasets.funnel import all_stages
from alignset.pipeline.datasets.reproduce import commands, open_flag
from alignset.pipeline.datasets.summary import copies_text, render_funnel
from alignset.pipeline.inputs.earlier_sets import OF_SETS
from alignset.pipeline.inputs.splits import ROWS
from alignset.pipeline.runs.documents import Funnel, Manifest, OptOuts, Step
from alignset.pipeline.settings import ABOUT
from alignset.pipeline.shown_texts import counted, format_cell, format_code
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS
from alignset.transforms.rules import given
from alignset.transforms.rules.catalogue import KEEP_MOST_SIMILAR, SIMILARITY
from alignset.transforms.rules.language_codes import ALL, UNDETERMINED
from alignset.transforms.rules.personal_data import MAX_PERSONAL_DATA
from alignset.transforms.rules.thresholds import MAX_PAIRS_PER_CONCEPT, MIN_EVALUATION_DISTANCE
from alignset.transforms.shards.shard_files import METADATA, SHARD_SCHEMA

_NAMED_FILES = 5  # of each format
WIDTH = 760  # px
_BAR_WIDTH, _LEAST_PX = 400, 1.5  # the longest bar, and that of a pair among a billion
# The values of rules that the catalogue has only where they drop something.
_OFF: dict[str, float] = {KEEP_MOST_SIMILAR: 1, MAX_PAIRS_PER_CONCEPT.name: 0}
_OFF[MAX_PERSONAL_DATA.name] = MAX_PERSONAL_DATA.default


def dataset_card(manifest: Manifest, funnel: Funnel, contents: Contents, earlier: Earlier) -> str:
    """The text of the card.

    Args:
      contents: what was seen of the pairs. manifest, funnel, earlier: as of `statements`.
    """
    texts = statements(manifest, funnel, earlier)
    numbers = sorted(int(number) for number, shard in manifest.shards.items() if shard.pairs)
    held_out = sum(shard.pairs for shard in manifest.held_out.values())
    return template("card.j2").render(
        manifest=manifest,
        contents=contents,
        texts=texts,
        limits=limits(manifest, texts),
        about=dict.fromkeys(ABOUT, "") | (manifest.about or {}),
        text_only=bool(manifest.job["text_only"]),
        trained=manifest.pairs - held_out,
        filled=len(numbers),
        features=_features(manifest, contents),
        languages=_languages(manifest, contents),
        pairs=counted(manifest.pairs, "image and alt-text pair"),
        size=size_category(manifest.pairs),
        quantiles=[f"{share:.0%}" for share in QUANTILES],
        looked_into="among all pairs"
        if contents.pairs >= manifest.pairs
        else f"in a sample of {counted(contents.pairs, 'pair')}",
        sources=source_lines(manifest),
        broken=funnel.broken_input or None,
        opt_outs=opt_out_counts(manifest, funnel),
        contact=manifest.fetch.get("contact", ""),
        rules=[(format_code(name), of[0], of[2]) for name, of in _rules(manifest).items()],
        commands=commands(manifest),
        tars=tar_pattern(numbers),
        table=render_funnel(funnel.steps),
        stages=[
            {
                "folder": stage.folder,
                "pairs": stage.pairs,
                "sources": source_lines(before) if (before := earlier.get(stage.folder)) else [],
                "rules": {
                    format_code(name): shown if off else format_code(shown)
                    for name, (shown, off, _) in (_rules(before) if before else {}).items()
                    if before and manifest.rules.get(name) != before.rules[name]
                },
                "table": render_funnel(stage.steps) if stage.steps else "",
            }
            for stage in all_stages(funnel)
        ],
    )


def source_lines(manifest: Manifest) -> list[str]:
    """The input files by their format, in Markdown: by name, without the machine's folders. Shards
    and held-out shards of a dataset have the same numbers, and so are named with their folder."""
    lines = []
    ordered = sorted(manifest.input, key=attrgetter("format", "path"))
    for kind, group in groupby(ordered, attrgetter("format")):
        files = list(group)
        names = []
        for file in files[:_NAMED_FILES]:
            *_, folder, name = ("", *file.path.split("/"))
            names.append(format_code(f"{folder}/{name}" if folder in OF_SETS else name))
        more = len(files) - _NAMED_FILES
        tail = f", and {more:,} more, which `manifest.json` names" if more > 0 else ""
        lines.append(
            f"{counted(len(files), 'file')} of format "
            f"{kind if kind.isalnum() else format_code(kind)}, "
            f"{sum(file.bytes for file in files):,} bytes: {', '.join(names)}{tail}"
        )
    return lines


def _rules(manifest: Manifest) -> dict[str, tuple[str, bool, str]]:
    """By rule: its value as a reader sees it, whether it is off, and what it keeps."""
    catalogue, rows = manifest.catalogue, {}
    flags = {rule.name: rule for rule in catalogue.rules}
    for name, value in manifest.rules.items():
        rule, limit = flags.get(name), catalogue.limits.get(name)
        is_off = value in ("", _OFF.get(name)) if rule is None else rule.is_off(value)
        off = "all" if name == "language" else "off"
        keeps = f"{limit.words} {value}" if limit and not is_off else ""
        rows[name] = off if is_off else str(value), is_off, keeps
    return rows


def size_category(pairs: int) -> str:
    """The Hugging Face Hub's name for a dataset of this size.

    >>> size_category(999), size_category(1_800_000_000), size_category(10**12)
    ('n<1K', '1B<n<10B', 'n>1T')
    """
    names = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"]
    if pairs < 1000:
        return "n<1K"
    power = len(str(pairs)) - 4
    return f"{names[power]}<n<{names[power + 1]}" if power < 9 else "n>1T"


def tar_pattern(numbers: list[int]) -> str:
    """The tars of some shards, ascending, as open_clip takes them: no number that is not there.

    >>> tar_pattern([1, 2, 5])
    'shards/{00001..00002}.tar::shards/{00005..00005}.tar'
    """
    runs = groupby(enumerate(numbers), lambda item: item[1] - item[0])
    parts = [[number for _, number in run] for _, run in runs]
    return "::".join(f"shards/{{{part[0]:05d}..{part[-1]:05d}}}.tar" for part in parts)


def _languages(manifest: Manifest, contents: Contents) -> list[str]:
    """The languages of a dataset, the most frequent first."""
    codes = [code for code in contents.languages if code and code != UNDETERMINED]
    rule = str(manifest.rules["language"])
    return codes or [code for code in rule.split(",") if code not in ("", ALL)]


def _features(manifest: Manifest, contents: Contents) -> list[dict[str, Any]]:
    """Types that `datasets` would guess from the first five samples, where a null may be all it
    sees."""
    names = dict.fromkeys(METADATA, "string")
    names |= {n: "int32" for n in METADATA if SHARD_SCHEMA.field(n).type == pa.int32()}
    text_only = bool(manifest.job["text_only"])
    if text_only:
        names = dict.fromkeys(("key", "url", "caption", "page_url", *contents.of_pages), "string")
    names |= dict.fromkeys(LANGUAGE_COLUMNS if contents.languages else (), "string")
    columns = [{"name": name, "dtype": kind} for name, kind in names.items()]
    for name, kind in (manifest.columns or {}).items():
        columns.append({"name": name} | feature(kind, in_json=not text_only))
    if text_only:
        return columns
    files = {manifest.extension: "image", "json": columns, "txt": "string"}
    return [
        {"name": name, "dtype" if isinstance(kind, str) else "struct": kind}
        for name, kind in (files | {"__key__": "string", "__url__": "string"}).items()
    ]


def feature(kind: Any, *, in_json: bool = False) -> dict[str, Any]:
    """A type of a manifest as `datasets` has it in YAML: `{"dtype": "string"}`, `{"list": ...}`.

    Args:
      in_json: whether it is of `KEY.json`, where times are text.
    """
    if isinstance(kind, str):
        is_text = in_json and kind.startswith(("timestamp", "date"))
        return {"dtype": "string" if is_text else kind}
    if "list" in kind:
        inner = feature(kind["list"], in_json=in_json)
        return {"list": inner.get("dtype") or inner.get("struct") or inner}
    fields = kind["struct"].items()
    return {"struct": [{"name": name} | feature(of, in_json=in_json) for name, of in fields]}


def funnel_svg(steps: Sequence[Step]) -> str:
    """The image of a funnel.

    Args:
      steps: in order, at least one, as `funnel` gives them.

    Returns:
      an `svg` element WIDTH px wide; the same steps give the same bytes.
    """
    total, kept = steps[0].seen, steps[-1].kept

    def share(pairs: int) -> str:
        of_all = pairs / max(1, total)
        return "<0.1%" if 0 < of_all < 0.0005 else f"{of_all:.1%}"

    def length(pairs: int) -> float:
        return max(_LEAST_PX, _BAR_WIDTH * pairs / total) if pairs else 0.0

    reasons = sum(1 for step in steps for count in step.dropped.values() if count)
    picture = template("funnel.svg.j2").render(
        width=WIDTH,
        height=88 + 30 * len(steps) + 17 * reasons,
        head=f"{kept:,} of {total:,} pairs{f' ({kept / total:.1%})' if total else ''} were kept",
        steps=steps,
        share=share,
        length=length,
        escape=escape,
    )
    return f"{picture}\n"


# ---- Features of a dataset, and the sentence that says of each what was done ---------------

Earlier = Mapping[str, Manifest]  # the datasets that one was made of, by the folder they are in

# Reasons of the funnel, beside opt-outs, that say that a pair is not wanted here.
_UNWANTED = (given.BLOCKED, given.REMOVED_BEFORE, given.TAKEN_DOWN)
# Reasons of rows without a URL, a text or an image.
_WITHOUT_A_PAIR = (
    *(given.BROKEN_INPUT, given.BROKEN_PAGE, given.MALFORMED_PAIR),
    *(given.FETCH_FAILED, given.NOT_AN_IMAGE, given.UNDECODABLE),
)
# By flag, how an owner says it.
_OTHER_OPT_OUTS = {
    "tdm_reservation": "TDM reservations",
    "content_usage": "AI preferences (`Content-Usage`)",
    "content_signal": "Content Signals",
    "rsl": "RSL licences",
    "also_obey": "rules of `robots.txt` for other crawlers",
    "xmp_data_mining": "`DataMining` in XMP",
    "c2pa": "C2PA's assertion on training",
}
_HEAD = re.compile(r"^\*\*.*?\*\*:\s*")
_LIMITS = (
    "unsafe",
    "personal",
    "blurred",
    "harmful",
    "similarity",
    "watermarks",
    "copies",
    "language",
)


def statements(manifest: Manifest, funnel: Funnel, earlier: Earlier) -> dict[str, str]:
    """The sentences by feature, in Markdown, each on one line; "" where there is nothing to say.

    Args:
      earlier: the manifests of the datasets that it was made of, by where they are. Where such a
        dataset has a feature, its sentence follows.
    """
    sentences = template("statements.j2").module
    flag, drops = open_flag(manifest), Counter[str]()
    for step in funnel.steps:
        drops.update(step.dropped)
    for reason in (*_WITHOUT_A_PAIR, MIN_EVALUATION_DISTANCE.reason):
        del drops[reason]
    others = ", ".join(f"{format_code(reason)} ({count:,})" for reason, count in (+drops).items())
    arguments = {
        "method": (flag, others),
        "crawled": (funnel.pages,),
        "copies": (manifest, copies_text(funnel.copies, funnel.near_duplicates)),
        "holdout": (manifest, funnel.copies),
        "deduplications": (manifest,),
        "grown": (manifest,),
        "language": (manifest.rules.get("language"), ALL),
        "personal": (manifest.rules.get(MAX_PERSONAL_DATA.name, MAX_PERSONAL_DATA.default),),
    } | dict.fromkeys(("harmful", "watermarks", "images"), ())
    texts = {name: getattr(sentences, name)(*of) for name, of in arguments.items()}
    removing = earlier
    if is_judged_anew(manifest):
        earlier = {folder: of for folder, of in earlier.items() if not of.layout}
    # No image came along from a dataset of texts alone, and from what that was made of.
    of_texts = tuple(f"{name}/" for name, of in earlier.items() if of.job.get("text_only"))
    with_images = {name: of for name, of in earlier.items() if not f"{name}/".startswith(of_texts)}
    for name, is_on in _IS_ON.items():
        sentence = getattr(sentences, name)
        sources = earlier if name in _OF_TEXTS else with_images
        sources = removing if name == "takedowns" else sources
        before = {folder: of for folder, of in sources.items() if is_on(of)}
        texts[name] = sentence(manifest, not before) + "".join(
            f" Earlier, of {format_code(folder)}: {_HEAD.sub('', sentence(of, False))}"
            for folder, of in before.items()
        )
    return {name: " ".join(text.split()) for name, text in texts.items()}


def limits(manifest: Manifest, texts: Mapping[str, str]) -> list[str]:
    """The sentences on what the filters do not see."""
    of_texts = ("personal", "harmful", "language", "images")
    return [texts[name] for name in (of_texts if manifest.job["text_only"] else _LIMITS)]


def is_judged_anew(manifest: Manifest) -> bool:
    """Whether datasets of this version were read as rows: whatever they did with these is done
    anew."""
    is_open = open_flag(manifest) in ("decontaminate_only", "score_only")
    return not is_open and any(file.format == ROWS for file in manifest.input)


def opt_out_counts(manifest: Manifest, funnel: Funnel) -> dict[str, int]:
    """How many pairs an opt-out, a blocklist or a takedown keeps out of the dataset: by details of
    `opted_out`, and by reasons of the funnel; for earlier datasets, by their folders."""
    report = funnel.opted_out
    counts = Counter[str]()
    if isinstance(report, OptOuts) and report.opt_outs == "reject":
        counts.update(report.details)
    for step in funnel.steps:
        counts.update({reason: step.dropped.get(reason, 0) for reason in _UNWANTED})
    for stage in () if is_judged_anew(manifest) else all_stages(funnel):
        for reason in (given.OPTED_OUT, *_UNWANTED):
            pairs = sum(step.dropped.get(reason, 0) for step in stage.steps)
            counts[f"{stage.folder}: {reason}"] += pairs
    return dict(+counts)


@cache
def template(name: str) -> jinja2.Template:
    """The template in a file; it knows `n`, `counted`, `code` and what is asked of manifests."""
    documents = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,
        undefined=jinja2.StrictUndefined,
    )
    documents.globals |= {"n": "{:,}".format, "counted": counted, "code": format_code}
    documents.globals |= {"is_scored": _is_scored, "is_compared": _is_compared}
    documents.globals["other_opt_outs"] = _OTHER_OPT_OUTS
    documents.globals["off_personal_data"] = MAX_PERSONAL_DATA.default
    documents.globals["removal_reasons"] = REMOVAL_REASONS
    documents.filters |= {"cell": format_cell, "code": format_code}
    return documents.get_template(name)


def _is_scored(manifest: Manifest) -> bool:
    measures = manifest.catalogue.measures.values()
    own = SIMILARITY in {measure.column for measure in measures}
    return bool(manifest.job.get("score_model")) or own


def _is_compared(manifest: Manifest) -> bool:
    has_scores = _is_scored(manifest) or SIMILARITY in (manifest.columns or {})
    return has_scores and not manifest.job.get("text_only")


# By feature, whether a manifest alone says that its run had it.
_IS_ON: dict[str, Callable[[Manifest], bool]] = {
    "fetched": lambda of: bool(of.fetched),
    "opt_outs": lambda of: bool(of.fetched),
    "unsafe": lambda of: bool(of.unsafe_model),
    "blurred": lambda of: bool(of.resize.get("blur_boxes")),
    "similarity": _is_compared,
    "evaluation": lambda of: bool(of.evaluation_images),
    "blocklists": lambda of: bool(of.blocklists),
    "vocabulary": lambda of: True,
    "takedowns": lambda of: bool(of.takedowns),  # which nothing does anew
}
_OF_TEXTS = ("blocklists", "vocabulary")  # which stay true where images did not come along
