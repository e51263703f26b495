"""How fetching went over time, by when each shard's stats were written: shards hold no clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from alignset.pipeline.datasets.facts import Facts
from alignset.pipeline.datasets.sizes_and_days import files_in
from alignset.pipeline.report.charts import Chart

_BARS, _LEAST_S = 40, 60.0


def times_chart(facts: Facts) -> Iterator[Chart]:
    """The pairs of the shards that ended in each part of the run's time, if it took a while."""
    ended = dict(_ended(facts))
    times = {shard: at for shard, at in ended.items() if shard in facts.records.fetched}
    if len(times) < 2:
        return
    first, last = min(times.values()), max(times.values())
    if last - first < _LEAST_S:
        return
    bars = min(_BARS, len(times))
    pairs, failed = [0] * bars, [0] * bars
    for shard, at in times.items():
        place = min(bars - 1, int(bars * (at - first) / (last - first)))
        tried, lost = facts.records.fetched[shard]
        pairs[place] += tried - lost
        failed[place] += lost
    starts = [first + (last - first) * place / bars for place in range(bars)]
    form = "%d %b %H:%M" if last - first > 86_400 else "%H:%M"
    labels = [datetime.fromtimestamp(at, UTC).strftime(form) for at in starts]
    yield Chart(
        "Fetches by when their shard ended, UTC",
        labels,
        labels,
        pairs,
        failed,
        note="A shard counts where its _stats.json was written; blue were fetched, orange failed.",
    )


def _ended(facts: Facts) -> Iterator[tuple[str, float]]:
    for folder, kind in (("shards", "images"), ("holdout", "holdout")):
        for file in files_in(f"{facts.out}/{folder}"):
            if file.name.endswith("_stats.json") and file.written:
                yield f"{kind}-{file.name.removesuffix('_stats.json')}", file.written
