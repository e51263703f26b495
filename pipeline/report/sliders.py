"""Other thresholds: the sliders of the page, and the command that makes a set by them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from alignset.pipeline.report.facts import Facts
from alignset.pipeline.report.reproduce import flags_on_set
from alignset.pipeline.rules import OPEN
from alignset.transforms.columns.thresholds import THRESHOLDS

# What each rule of the sliders is, in words.
RULE_NAMES = {
    "min_image_side": "Shorter side, px, larger than",
    "max_image_aspect": "Longer side / shorter side, smaller than",
    "max_unsafe_score": "Unsafe score, at most",
    "min_evaluation_distance": "Distance to an evaluation image, at least",
    "min_words": "Words of the text, at least",
    "max_words": "Words of the text, at most",
    "min_language_score": "Score of the language, at least",
}
# Flags that name files, of which no report tells the folder.
_FILES = ("vocabulary", "blocklist", "eval_images", "eval_index", "overlap_model", "unsafe_model")


class Slider(NamedTuple):
    """A rule whose threshold the reader may move.

    Fields:
      axis: of the joint histogram. edges: the thresholds that can be chosen. place: of the run's
        own. first: the place on the axis of the first. plane: images or texts.
    """

    rule: str
    name: str
    axis: str
    edges: list[float]
    place: int
    first: int
    plane: str


def sliders(facts: Facts) -> Iterator[Slider]:
    """The rules that another threshold can be chosen for."""
    images, texts = facts.records.images.whole.joint, facts.records.texts.whole.joint
    axes = {axis.name: axis for axis in (*images.axes, *texts.axes)}
    for rule, name in RULE_NAMES.items():
        of = THRESHOLDS[rule]
        axis = axes.get(of.axis)
        own = facts.rules.get(rule)
        if axis is None or own is None or is_left_out(facts, rule):
            continue
        edges = _edges(rule, axis.edges, facts.rules)
        if own not in edges or not _is_judged(facts, rule, own):
            continue
        first = axis.edges.index(edges[0] + (rule == "max_words"))
        yield Slider(rule, name, axis.name, edges, edges.index(own), first, of.plane)


def is_left_out(facts: Facts, rule: str) -> bool:
    """Whether a rule is off by --decontaminate_only, and so nothing of it is asked. Of one that was
    set to drop nothing among others, a reader may want to know what it would cost."""
    rules = facts.run.rules if facts.run else {}
    only_copies = rules.get("vocabulary_size") == OPEN["vocabulary_size"]
    return only_copies and rule in OPEN and rules.get(rule) == OPEN[rule]


def _edges(rule: str, edges: list[float], rules: dict[str, float]) -> list[float]:
    """The thresholds of a rule that a run takes, and whose counts are recorded."""
    least, most = rules.get("min_words", 0), rules.get("max_words", math.inf)
    if rule == "min_words":
        return [edge for edge in edges if edge <= most]
    if rule == "max_words":  # the bin of a text is how many edges are at or below its words
        return [edge - 1 for edge in edges if edge - 1 >= max(1, least)]
    if rule == "min_language_score":
        return [edge for edge in edges if edge <= rules.get(rule, 0)]
    return edges


def _is_judged(facts: Facts, rule: str, own: float) -> bool:
    """Whether the run measured what the rule is about."""
    if rule == "min_language_score":
        return bool(facts.language)
    if rule == "max_unsafe_score":
        return own < 1
    return rule != "min_evaluation_distance" or _was_compared(facts)


def _was_compared(facts: Facts) -> bool:
    joint = facts.records.images.whole.joint
    return any(
        axis.name == "distance" and bool((bins != axis.no_value).any())
        for axis, bins in zip(joint.axes, joint.bins(), strict=True)
    )


def command(facts: Facts) -> list[str]:
    """The words, for a shell, of the command that makes a set of this one, which is OUT, but for
    the thresholds that are chosen."""
    words = ["alignset curate", "--input=OUT", "--output=NEW"]
    if facts.run is None:
        return words
    own = [] if facts.run.given_vocabulary else ["--vocabulary=OUT"]
    return [*words, *own, *flags_on_set(facts.run)]


def command_note(facts: Facts) -> str:
    """What a reader has to know of the command."""
    said = []
    words = command(facts)
    named = [name for name in _FILES if any(w.startswith(f"--{name}=") for w in words[3:])]
    named = [name for name in named if f"--{name}=OUT" not in words and f"--{name}=" not in words]
    if named:
        flags = " and ".join(f"--{name}" for name in named)
        said.append(f"Give the paths of your own files in {flags}: a report tells no folders.")
    if facts.run is not None and facts.run.resize.get("resize_mode", "original") != "original":
        said.append("The images were resized: a new run judges their sides as they are stored.")
    return " ".join(said)


def near_lists(facts: Facts, lists: dict[str, list[int]]) -> list[tuple[str, str, str]]:
    """The rules that are on and have examples on a side of their thresholds: the rule, and the
    lists of the kept and of the dropped, which may be empty."""
    sides: dict[str, dict[str, str]] = {}
    for name in lists:
        if name.startswith("near:"):
            rule, _, outcome = name.removeprefix("near:").partition(" ")
            sides.setdefault(rule, {})["kept" if outcome == "kept" else "dropped"] = name
    order = [rule for rule in RULE_NAMES if rule in sides and not is_left_out(facts, rule)]
    return [(rule, sides[rule].get("kept", ""), sides[rule].get("dropped", "")) for rule in order]
