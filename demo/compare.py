"""Compares what `beam_runner.py` wrote with the truth of the web it was run on."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from alignset.demo.text_rules import Identity, pair_identity

# Of one pair (None: the malformed), as often as it stands in the input: (reason or None, detail or
# None).
Outcomes = dict[Identity | None, Counter]


@dataclass(frozen=True)
class Comparison:
    """How many rows the run treated as the truth has it, and a line for each pair it did not."""

    agreeing: int
    total: int
    differences: list[str]


def _outcomes(rows: Iterable[dict]) -> Outcomes:
    """By identity, for the run may give URL and text as they came or as they are kept."""
    outcomes: Outcomes = defaultdict(Counter)
    for row in rows:
        # Only failed fetches have details that the contract names.
        detail = row.get("detail") if row["reason"] == "fetch_failed" else None
        outcomes[pair_identity((row["url"], row["caption"]))][row["reason"], detail] += 1
    return outcomes


def _read(files: list[Path], columns: list[str]) -> list[dict]:
    return [
        row for file in sorted(files) for row in pq.read_table(file, columns=columns).to_pylist()
    ]


def read_run(output: Path) -> list[dict]:
    """url, caption, reason (None: kept) and detail of every pair of a run's shards and rejects."""
    sidecars = [*(output / "shards").glob("*.parquet"), *(output / "holdout").glob("*.parquet")]
    kept = _read(sidecars, ["url", "caption", "status"])
    kept = [{**row, "reason": None} for row in kept if row["status"] == "success"]
    columns = ["url", "caption", "reason", "detail"]
    return kept + _read(list((output / "rejected").glob("*.parquet")), columns)


def compare(truth: pa.Table, run: list[dict]) -> Comparison:
    """Counts the rows whose fate is as told; of equal pairs it does not matter which is kept."""
    expected, outcomes = _outcomes(truth.to_pylist()), _outcomes(run)
    agreeing, differences = 0, []
    for pair in sorted(expected.keys() | outcomes.keys(), key=str):
        wanted, got = expected.get(pair, Counter()), outcomes.get(pair, Counter())
        agreeing += (wanted & got).total()
        if wanted != got:
            differences.append(f"{pair}: {_told(wanted - got)} came out as {_told(got - wanted)}")
    return Comparison(agreeing, truth.num_rows, differences)


def _told(outcomes: Counter) -> str:
    names = [
        f"{reason or 'kept'}{f' ({detail})' if detail else ''}"
        for reason, detail in outcomes.elements()
    ]
    return ", ".join(names) or "nothing"
