"""Other thresholds: the sliders of the page, and the command that makes a set by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from alignset.pipeline.datasets.facts import Facts, describe_rules
from alignset.pipeline.datasets.page_numbers import NEAR, count_kept
from alignset.pipeline.datasets.reproduce import flags_of, words_of
from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.documents import Funnel
from alignset.pipeline.settings import FILE_FLAGS, INPUT_FLAGS
from alignset.pipeline.shown_texts import counted, printable
from alignset.transforms.columns.records import KEPT
from alignset.transforms.rules.catalogue import OF_COUNTS
from alignset.transforms.rules.language_codes import ENGLISH
from alignset.transforms.rules.rule import IMAGES, TEXTS, Limit
from alignset.transforms.rules.thresholds import WORDS


class Slider(NamedTuple):
    """A rule whose threshold the reader may move.

    Fields:
      edges: the thresholds that can be chosen. place: of the run's own.
      first: the place on the axis of the first.
    """

    rule: str
    limit: Limit
    edges: list[float]
    place: int
    first: int


def sliders(facts: Facts) -> Iterator[Slider]:
    """The rules that another threshold can be chosen for."""
    limits, rules = facts.catalogue.limits, facts.rules
    for rule, limit in limits.items():
        axis = facts.numbers.of(limit.judges).axes.get(limit.measure.axis)
        if axis is None or is_left_out(facts, rule) or not _is_judged(facts, limit):
            continue
        least, most = limit.range  # of the thresholds that a run takes, and whose counts are known
        if limit.measure.dropped_only:
            most = rules.get(rule, 0)
        for other in limits.values():  # no run takes a least number above the most
            bound = rules.get(other.name)
            if (
                other.measure is limit.measure
                and other.keeps_above != limit.keeps_above
                and bound is not None
            ):
                least, most = (
                    (least, min(most, bound)) if limit.keeps_above else (max(least, bound), most)
                )
        edges = [of for of in map(limit.threshold, axis.edges) if least <= of <= most]
        if (own := rules.get(rule)) in edges:
            first = axis.edges.index(limit.edge(edges[0]))
            yield Slider(rule, limit, edges, edges.index(own), first)


def is_left_out(facts: Facts, rule: str) -> bool:
    """Whether a rule is off by --decontaminate_only, and so is not shown. A rule that was set to
    drop nothing is shown, since a reader may want to know its cost."""
    rules = facts.run.rules if facts.run else {}
    only_copies = all(other.is_off(rules.get(other.name)) for other in OF_COUNTS)
    open_values = facts.catalogue.opened
    return only_copies and rule in open_values and rules.get(rule) == open_values[rule]


def _is_judged(facts: Facts, limit: Limit) -> bool:
    """Whether the run measured what the rule is about."""
    if limit.measure.dropped_only:
        has_detector = facts.run is not None and bool(facts.run.rules.get("language_detector"))
        return facts.language == ENGLISH and not has_detector
    if limit.measure is WORDS and facts.run and facts.run.rules.get("words_per_language"):
        return False  # one threshold says nothing of the others
    heights = facts.numbers.of(limit.judges).heights.get(limit.measure.axis)
    return heights is not None and bool(heights[:, :-1].any())


def is_open(
    facts: Facts, limit: Limit, is_judged: Callable[[Facts, Limit], bool] = _is_judged
) -> bool:
    """Whether a looser threshold brings pairs back that a later rule has not judged.

    Args:
      is_judged: whether the run measured what a rule is about.
    """
    limits = [of for of in facts.catalogue.limits.values() if of.judges == limit.judges]
    count_rules = [rule for rule in OF_COUNTS if rule.costly and rule.judges == limit.judges]
    return any(of.stage > limit.stage and is_judged(facts, of) for of in limits) or any(
        not rule.is_off(facts.rules.get(rule.name)) for rule in count_rules
    )


def count_thresholds(out: str, flags: Sequence[str]) -> str:
    """Counts the pairs that other thresholds keep, exactly; "up to" where a later rule has not
    judged them. Returns lines for a reader.

    Args:
      flags: as `--max_unsafe_score=0.3`, of any rules of the dataset that have a threshold.

    Raises:
      UsageError: there is no such dataset, rule or threshold.
    """
    facts = describe_rules(out)
    thresholds = dict(_threshold(facts, flag) for flag in flags)
    paths = [*facts.files.kept_files, *facts.files.rejected_files]
    counts = count_kept(paths, facts, thresholds)
    for name in thresholds:
        if counts[KEPT] and not counts[f"--{name}"]:
            raise UsageError(f"--{name}: no row of {out} has a value that it compares")
    later = any(
        is_open(facts, facts.catalogue.limits[name], lambda _, other: counts[f"--{other.name}"] > 0)
        for name in thresholds
        if facts.catalogue.limits[name].judges == IMAGES
    )
    kept, gone, texts, images = (counts[name] for name in (KEPT, "out", TEXTS, IMAGES))
    of_texts = "up to " * bool(texts and not facts.text_only)
    of_images = "up to " * bool(images and later)
    up_to, come = of_texts or of_images, texts + images
    lines = [
        f"{counted(kept, 'pair')} are kept now",
        f"{up_to}{counted(kept - gone + come, 'pair')} with {' '.join(flags)}",
        f"  {gone:,} of those that are kept now go",
        f"  {up_to}{come:,} of those that were dropped come: {of_texts}{texts:,} by rules of "
        f"texts, {of_images}{images:,} by rules of images",
    ]
    if up_to:
        lines.append("up to: rules that come after have not judged these pairs")
    funnel = facts.find("funnel.json", Funnel)
    dropped = funnel.steps[0].seen - funnel.pairs if funnel and funnel.steps else 0
    unknown = dropped - counts["dropped"]
    if facts.state == "under way":
        lines.append("the run has not ended: these are counts of finished shards")
    elif unknown > 0:
        lines.append(f"{counted(unknown, 'dropped pair')} without a row in rejected/ not counted")
    return "\n".join(lines)


def _threshold(facts: Facts, flag: str) -> tuple[str, float]:
    name, _, text = flag.removeprefix("--").rpartition("=")
    limit, own = facts.catalogue.limits.get(name), facts.rules.get(name)
    names = [of for of in facts.catalogue.limits if of in facts.rules]
    if limit is None or own is None or not flag.startswith("--"):
        which = f"it has {', '.join(names)}" if names else "it has none"
        raise UsageError(f"{flag} is no threshold of {facts.out}: {which}")
    try:
        value = float(text)
        limit.check(value)
    except ValueError as error:
        why = str(error) if name in str(error) else f"--{name} must be a number; got {text!r}"
        raise UsageError(why) from error
    if limit.measure is WORDS and facts.run and facts.run.rules.get("words_per_language"):
        raise UsageError(f"--{name}: languages have limits of their own in {facts.out}")
    if limit.measure.dropped_only and value > own:
        raise UsageError(f"--{name}: scores of kept texts are not recorded; pass at most {own:g}")
    return name, value


def command(facts: Facts) -> list[str]:
    """The words, for a shell, of the command that makes a dataset of this one, which is OUT, but
    for the thresholds that are chosen."""
    words = ["alignset curate", "--input=OUT", "--output=NEW"]
    if facts.run is None:
        return words
    flags = {n: of for n, of in flags_of(facts.run).items() if n not in INPUT_FLAGS}
    return words + words_of(flags)


def command_note(facts: Facts) -> str:
    """A note on the command, or ""."""
    paths = [word for word in command(facts)[3:] if not word.endswith("=")]
    names = [name for name in FILE_FLAGS if any(w.startswith(f"--{name}=") for w in paths)]
    flags = " and ".join(f"--{name}" for name in names)
    return f"Pass the paths of your own files in {flags}: a report names no folders." * bool(flags)


def near_lists(facts: Facts, lists: dict[str, list[int]]) -> list[tuple[str, ...]]:
    """The rules that are on and have examples on a side of their thresholds: the rule, and the
    lists of the kept and of the dropped, which may be empty."""
    rows = []
    for rule, limit in facts.catalogue.limits.items():
        names = [printable(f"{NEAR}{rule} {outcome}") for outcome in (KEPT, limit.reason)]
        names = [name if name in lists else "" for name in names]
        if any(names) and not is_left_out(facts, rule):
            rows.append((rule, *names))
    return rows
