"""Builds the demo's web: `python -m alignset.demo.web build DIR [--small] [--port=8765]`.

DIR/site/           files to serve with `python -m alignset.demo.serve DIR`
DIR/pairs.parquet   url, caption
DIR/truth.parquet   the same rows in the same order with reason (null: kept) and detail
DIR/eval/00000.tar  WebDataset of scenes whose combinations of words no pair to train on has
DIR/flags.json      the flags of `beam_runner.py` that the truth holds for
"""

import argparse
import json
import shutil
import sys
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from alignset.demo import image_kinds, text_kinds
from alignset.demo.scene_files import add_scenes
from alignset.demo.site import FULL, SMALL, Site, WebPair
from alignset.demo.text_rules import Numbers, corpus_of, judge, kept_text, pair_identity

TEXT_REASONS = {
    *("malformed_pair", "duplicate_pair", "wrong_language", "too_few_words", "too_many_words"),
    *("text_on_too_many_images", "image_with_too_many_texts", "rare_token"),
}
TIMEOUT_S = 3

KINDS = (
    add_scenes,
    image_kinds.add_photos,
    text_kinds.add_popular_images,
    text_kinds.add_shared_texts,
    image_kinds.check_distances,
    image_kinds.add_odd_sizes,
    image_kinds.add_failing_fetches,
    image_kinds.add_detours,
    image_kinds.add_broken_files,
    image_kinds.add_near_copies,
    text_kinds.add_lengths,
    text_kinds.add_frequent_texts,
    text_kinds.add_foreign_texts,
    text_kinds.add_rare_tokens,
    text_kinds.add_malformed,
    text_kinds.add_duplicates,
)


def build(
    directory: Path, *, small: bool = False, seed: int = 0, port: int = 8765
) -> dict[str, object]:
    """Builds the web anew; the same bytes for the same arguments. Gives the flags."""
    for name in ("site", "eval"):
        shutil.rmtree(directory / name, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        site = Site(directory, port, SMALL if small else FULL, seed, pool)
        for add_kind in KINDS:
            add_kind(site)
        vocabulary_size = check_against_rules(site)
    site.rng.shuffle(site.rows)
    _write_tables(directory, site.rows)
    flags = {
        "max_texts_per_image": site.plan.max_texts_per_image,
        "timeout_s": TIMEOUT_S,
        "vocabulary_size": vocabulary_size,
    }
    (directory / "flags.json").write_text(json.dumps(flags, indent=2) + "\n")
    return flags


def check_against_rules(site: Site) -> int:
    """The vocabulary's size. Raises where a row was made for another reason than it falls for."""
    texts = {kept_text(row.caption or "") for row in site.rows} - {""}
    site.languages.detect(texts)
    unsure = [text for text in texts if not site.languages.is_sure(text)]
    if unsure:
        raise ValueError(f"texts of doubtful language: {unsure[:5]}")
    rows = [(row.url, row.caption) for row in site.rows]
    ngrams = corpus_of(rows, "en", site.languages.language_of).ngrams
    vocabulary_size = sum(count > 1 for count in ngrams.values())
    numbers = Numbers(
        language="en",
        max_texts_per_image=site.plan.max_texts_per_image,
        vocabulary_size=vocabulary_size,
    )
    wanted: dict[tuple[str, str] | None, Counter[str | None]] = defaultdict(Counter)
    for row in site.rows:
        pair = pair_identity((row.url, row.caption))
        wanted[pair][row.reason if row.reason in TEXT_REASONS else None] += 1
    outcomes = judge(rows, numbers, language_of=site.languages.language_of)
    wrong = [(p, wanted[p], reasons) for p, reasons in outcomes.items() if reasons != wanted[p]]
    if wrong:
        raise ValueError(
            f"{len(wrong)} pairs fall for another reason than they were made for: {wrong[:5]}"
        )
    return vocabulary_size


def _write_tables(directory: Path, rows: list[WebPair]) -> None:
    columns = {name: [getattr(row, name) for row in rows] for name in WebPair.__dataclass_fields__}
    truth = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    pq.write_table(truth, directory / "truth.parquet")
    pq.write_table(truth.select(["url", "caption"]), directory / "pairs.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["build"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--small", action="store_true", help="about 800 pairs, with every kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=8765, help="the port in the URLs")
    arguments = parser.parse_args()
    try:
        flags = build(
            arguments.directory, small=arguments.small, seed=arguments.seed, port=arguments.port
        )
    except (OSError, ValueError) as error:
        sys.exit(f"demo.web: {error}")
    rows = pq.read_metadata(arguments.directory / "pairs.parquet").num_rows
    print(f"{arguments.directory}: {rows} pairs; flags {json.dumps(flags)}")


if __name__ == "__main__":
    main()
