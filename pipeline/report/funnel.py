"""The funnel: what each step saw, kept and dropped, checked to add up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transforms.columns.reasons import STEPS

Step = dict[str, Any]


def funnel(counts: Mapping[str, int], steps: Mapping[str, tuple[str, ...]] = STEPS) -> list[Step]:
    """The steps in order.

    Args:
      counts: `seen`, and how many pairs were dropped for each reason.
      steps: each step's reasons.

    Returns:
      per step: its name, seen, kept, and how many went for each of its reasons.
    """
    seen = counts.get("seen", 0)
    table = []
    for name, reasons in steps.items():
        dropped = {reason: counts.get(reason, 0) for reason in reasons}
        kept = seen - sum(dropped.values())
        table.append({"step": name, "seen": seen, "kept": kept, "dropped": dropped})
        seen = kept
    return table


def check_funnel(table: list[Step], kept: int) -> None:
    """Raises where the funnel does not add up.

    Args:
      kept: how many pairs were in fact written.

    Raises:
      RuntimeError: naming the step and both numbers.
    """
    seen = table[0]["seen"]
    for step in table:
        if step["seen"] != seen:
            raise RuntimeError(f"{step['step']} has seen {step['seen']} pairs, but {seen} came")
        if step["seen"] != step["kept"] + sum(step["dropped"].values()) or step["kept"] < 0:
            raise RuntimeError(f"the counts of step {step['step']} do not add up: {step}")
        seen = step["kept"]
    if seen != kept:
        raise RuntimeError(f"the funnel keeps {seen} pairs, but {kept} were written")


def render_vocabulary(vocabulary: Mapping[str, Any]) -> str:
    """One line on the vocabulary, as `describe_vocabulary` tells of it or as one was given."""
    size = f"vocabulary: {vocabulary['vocabulary']:,}"
    if "ngrams" not in vocabulary:
        return f"{size} n-grams, of the given file"
    cut, once = vocabulary["cut_off_count"], vocabulary["by_count"][:1]
    said = [
        f"{size} of {vocabulary['ngrams']:,} n-grams",
        f"{vocabulary['share_of_occurrences']:.1%} of {vocabulary['occurrences']:,} occurrences",
        f"cut within those that occur {cut:,} times" if cut else "nothing cut",
        f"{once[0]['ngrams'] if once else 0:,} occur once",
    ]
    return "; ".join(said)


def render_pages(counts: Mapping[str, int]) -> str:
    """One line on the pages, as `ParsePages` counted them."""
    others = {"not_ok": "not 2xx", "not_html": "not HTML", "no_response": "no answers"}
    records = f" of {counts['records']:,} records" if counts.get("records") else ""
    said = [f"pages: {counts.get('pages', 0):,}{records}"]
    said += [f"{counts[name]:,} {shown}" for name, shown in others.items() if counts.get(name)]
    said.append(f"{counts.get('broken', 0):,} broken")
    return "; ".join([*said, f"{counts.get('pairs', 0):,} pairs"])


def render_funnel(table: list[Step]) -> str:
    """The funnel as text, a line a step and a line a reason."""
    total = max(1, table[0]["seen"])
    lines = [f"{'step':<28}{'seen':>13}{'dropped':>13}{'kept':>13}{'of all':>9}"]
    for step in table:
        dropped = step["seen"] - step["kept"]
        share = f"{step['kept'] / total:.1%}"
        lines.append(
            f"{step['step']:<28}{step['seen']:>13,}{dropped:>13,}{step['kept']:>13,}{share:>9}"
        )
        lines += [f"  {why:<26}{'':>13}{n:>13,}" for why, n in step["dropped"].items() if n]
    return "\n".join(lines)
