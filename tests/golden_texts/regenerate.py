"""Writes `texts.jsonl`: made pairs, at least one for each reason of the text stage, and their keys.

Run as `python -m tests.golden_texts.regenerate` from the project's folder when the contract itself
changes; keys and reasons of an unchanged contract never change.
"""

import json
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from alignset import beam_runner

GOLDEN = Path(__file__).parent / "texts.jsonl"
SITE = "http://example.org"
FLAGS = (
    "--text_only",
    "--max_words=8",
    "--max_images_per_text=2",
    "--max_texts_per_image=3",
    "--vocabulary_size=34",
)
DOG = "The brown dog sleeps under the wooden table"
HOUSE = "White house with a garden, near the river"
MANY = "The white house is near the brown river"
# URL, alt-text, and the reason by the design, written by hand.
MADE: tuple[tuple[str | None, str | None, str | None], ...] = (
    (f"{SITE}/1.jpg", DOG, None),
    (f"{SITE}/2.jpg", f"  {DOG.replace(' ', '&nbsp;')} ", None),
    ("HTTP://Example.org:80/1.jpg#top", DOG.upper(), "duplicate_pair"),
    (f"{SITE}/3.jpg", HOUSE, None),
    (f"{SITE}/4.jpg", HOUSE, None),
    (None, DOG, "malformed_pair"),
    ("/5.jpg", DOG, "malformed_pair"),
    (f"{SITE}/5.jpg", "&#32;", "malformed_pair"),
    (f"{SITE}/6.jpg", "Der braune Hund schläft unter dem Holztisch", "wrong_language"),
    (f"{SITE}/7.jpg", "white house - !", "too_few_words"),
    (f"{SITE}/8.jpg", f"{DOG} today", "too_many_words"),
    *((f"{SITE}/{n}.jpg", MANY, "text_on_too_many_images") for n in (9, 10, 11)),
    *(
        (f"{SITE}/12.jpg", f"The brown dog sleeps under the {where}", "image_with_too_many_texts")
        for where in ("tree", "garden", "river", "house")
    ),
    (f"{SITE}/13.jpg", "The brown zebra sleeps under the table", "rare_token"),
    (f"{SITE}/14.jpg", "The wooden dog sleeps under the table", "rare_token"),  # by a bigram
)


def run(folder: Path) -> list[dict]:
    """What the command makes of the pairs: url, caption, reason, detail and key, by key."""
    lines = [json.dumps({"url": url, "caption": caption}) for url, caption, _ in MADE]
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    args = (f"--input={folder / 'pairs.jsonl'}", f"--output={folder / 'out'}", *FLAGS)
    status = beam_runner.main(args)
    if status:
        raise RuntimeError(f"beam_runner.py ended with {status}; it says why above")
    rows = [
        {name: row.get(name) for name in ("key", "url", "caption", "reason", "detail")}
        for kind in ("pairs", "rejected")
        for path in sorted((folder / "out" / kind).glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    return sorted(rows, key=lambda row: (row["key"], row["reason"] or "", row["caption"]))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = run(Path(folder))
    meant, written = (
        Counter(reasons) for reasons in ([m[2] for m in MADE], [r["reason"] for r in rows])
    )
    if meant != written:
        raise SystemExit(f"not written: by the design {meant}, but the command has {written}")
    GOLDEN.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


if __name__ == "__main__":
    main()
