"""Language detectors on short texts of known language: speed, English lost, others taken for it.

Every detector judges the same texts of `language_texts.py`: all English ones and some of each other
language. Then `wrong_languages` judges 100,000 captions, against langdetect on some of them.
"""

import argparse
import dataclasses
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent.parent))

from language_detectors import detectors
from language_texts import CATALOGUES, LabelledText, captions, labelled_texts
from language_titles import title_table, titles
from results import print_results, print_table

from alignset.pipeline.rules import Rules
from alignset.transforms.pairs.language import (
    langdetect_probability,
    language_score,
    wrong_languages,
)
from alignset.transforms.pairs.languages import LANGUAGES, LanguageRule

# Percent of the web's pages, about as W3Techs counted them in 2024: an assumption. The other
# languages that are measured share the rest.
WEB = {
    **{"en": 49, "es": 5.9, "de": 5.6, "ja": 5, "fr": 4.5, "pt": 4, "ru": 3.7, "it": 2.8},
    **{"nl": 2.2, "pl": 1.9, "tr": 1.8, "zh": 1.2, "fa": 1.1, "vi": 1.1, "cs": 1, "id": 1},
    **{"ko": 0.8, "uk": 0.7, "ar": 0.6, "hu": 0.6, "el": 0.5, "ro": 0.5, "sv": 0.5, "da": 0.4},
    **{"fi": 0.4, "he": 0.4, "sk": 0.4, "th": 0.4, "bg": 0.2, "hr": 0.2, "no": 0.2, "sr": 0.2},
    **{"ca": 0.1, "et": 0.1, "lt": 0.1, "lv": 0.1, "sl": 0.1},
}
KINDS = ("messages", "emoji", "photos")
LENGTHS = {"3-5": (3, 5), "6-10": (6, 10), "11-20": (11, 20)}
CASES: dict[str, Callable[[str], str]] = {
    "as is": str, "lower": str.lower, "UPPER": str.upper, "Title": str.title,
}  # fmt: skip
MIN_TEXTS = 40  # a language with fewer says nothing

Texts = Sequence[LabelledText]
Bools = np.ndarray


def main() -> None:
    args = _arguments()
    default = Rules()
    rule = LanguageRule(
        "en",
        default.min_language_score,
        default.min_unsure_language_score,
        default.min_langdetect_probability,
    )
    texts = labelled_texts(args.catalogues.split(","))
    counts = Counter(text.language for text in texts)
    texts = [text for text in texts if counts[text.language] >= MIN_TEXTS]
    sample = _sampled(texts, args.texts_per_language)
    languages = len({text.language for text in texts})
    print(
        f"{len(texts):,} texts, {counts['en']:,} of them English, in {languages} languages; "
        f"{len(sample):,} of them for the detectors"
    )
    rows = [_detector_row(name, detect, sample) for name, detect in detectors(rule)]
    print_table(rows)
    curve = _curve(texts, rule)
    print(
        "\nenglish kept and others taken for it, by min_language_score, nothing left to langdetect"
    )
    print_table(curve)
    by_kind = titles(args.root) | {"messages, emoji, photos": texts}
    print("\nshort titles: English kept / others taken for it, in %, by rule")
    print_table([_sizes(by_kind)])
    tried = title_table(by_kind, rule)
    print_table(tried)
    print("\nwhat each language is taken for")
    print_table(_confusion(texts, rule))
    print()
    throughput = [_throughput(name, column, rule) for name, column in _columns(texts).items()]
    figures = {"rule": dataclasses.asdict(rule), "detectors": rows, "curve": curve}
    figures["rules tried"] = tried
    print_results(throughput, {"throughput": throughput} | figures, ["eldc", "langdetect"])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--catalogues", default=",".join(CATALOGUES), help="packages, by commas")
    parser.add_argument(
        "--texts_per_language", type=int, default=120, help="for the detectors; but all of English"
    )
    parser.add_argument(
        "--root", type=Path, default=Path("/"), help="where Debian's packages of titles are"
    )
    return parser.parse_args()


def _sizes(by_kind: dict[str, list[LabelledText]]) -> dict[str, Any]:
    """How many texts each kind has: English, others, and in how many other languages."""
    row: dict[str, Any] = {"kind": "texts"}
    for kind, its in by_kind.items():
        others = [text.language for text in its if text.language != "en"]
        row[kind] = f"{len(its) - len(others):,}"
        if others:
            row[kind] += f" / {len(others):,} in {len(set(others))}"
    return row


def _sampled(texts: Texts, most: int) -> list[LabelledText]:
    by_language: dict[str, list[LabelledText]] = defaultdict(list)
    for text in texts:
        by_language[text.language].append(text)
    draw = random.Random(0).sample
    return [
        text
        for code, its in by_language.items()
        for text in (its if code == "en" else draw(its, min(most, len(its))))
    ]


@dataclasses.dataclass(frozen=True)
class _Kept:
    """Which of the texts a detector keeps as English: bool[n], and the shares that follow."""

    texts: Texts
    kept: Bools

    def share(self, *wanted: Callable[[LabelledText], bool]) -> float:
        rows = [at for at, text in enumerate(self.texts) if all(is_so(text) for is_so in wanted)]
        return float(self.kept[rows].mean()) if rows else float("nan")

    def recall(self, *wanted: Callable[[LabelledText], bool]) -> float:
        """Of English; the kinds of text weigh the same, where they have any such."""
        shares = [
            self.share(lambda text, kind=kind: (text.language, text.kind) == ("en", kind), *wanted)
            for kind in KINDS
        ]
        return float(np.nanmean(shares))

    def taken(self) -> dict[str, float]:
        """By language, how much of it is taken for English."""
        kept, every = Counter[str](), Counter[str]()
        for text, is_kept in zip(self.texts, self.kept, strict=True):
            every[text.language] += 1
            kept[text.language] += bool(is_kept)
        return {code: kept[code] / n for code, n in every.items() if code != "en"}

    def figures(self) -> dict[str, float]:
        recall, taken = self.recall(), self.taken()
        unnamed = taken.keys() - WEB.keys()
        rest = (100 - sum(WEB.values())) / max(len(unnamed), 1)
        foreign = sum(WEB.get(code, rest) * share for code, share in taken.items())
        return {
            "recall": recall,
            "others kept": float(np.mean(list(taken.values()))),
            "impure, equal %": 100 * sum(taken.values()) / (recall + sum(taken.values())),
            "impure, web %": 100 * foreign / (WEB["en"] * recall + foreign),
        }


def _detector_row(name: str, detect: Callable[[str], str], sample: Texts) -> dict[str, Any]:
    detect("a text before the clock starts, for what is loaded late")
    langdetect_probability.cache_clear()
    kept: dict[str, _Kept] = {}
    seconds = 0.0
    for case, spelt in CASES.items():
        spellings = [spelt(text.text) for text in sample]
        start = time.process_time()
        codes = [detect(text) for text in spellings]
        seconds = seconds or time.process_time() - start
        kept[case] = _Kept(sample, np.array([code == "en" for code in codes]))
    plain = kept["as is"]
    by_length = {
        words: plain.recall(lambda text, low=low, high=high: low <= text.words <= high)
        for words, (low, high) in LENGTHS.items()
    }
    by_case = {case: kept[case].recall() for case in CASES if case != "as is"}
    by_case["others, UPPER"] = kept["UPPER"].figures()["others kept"]
    return (
        {"detector": name, "texts/s": len(sample) / seconds} | plain.figures() | by_length | by_case
    )


def _curve(texts: Texts, rule: LanguageRule) -> list[dict[str, Any]]:
    scores = np.array([language_score(text.text.casefold(), "en")[0] for text in texts])
    rows = [
        {"min_language_score": f"{low:.3f}"} | _Kept(texts, scores >= low).figures()
        for low in (0.45, 0.475, 0.49, 0.5, 0.505, 0.51, 0.52, 0.54, 0.56, 0.6)
    ]
    wrong = wrong_languages(pa.array([text.text for text in texts]), rule).rows
    kept = np.ones(len(texts), bool)
    kept[wrong] = False
    return [{"min_language_score": "default rule"} | _Kept(texts, kept).figures(), *rows]


def _confusion(texts: Texts, rule: LanguageRule) -> list[dict[str, Any]]:
    wrong = wrong_languages(pa.array([text.text for text in texts]), rule)
    taken = ["en"] * len(texts)
    for row, code in zip(wrong.rows, wrong.languages.to_pylist(), strict=True):
        taken[row] = code
    by_language: dict[str, Counter[str]] = defaultdict(Counter)
    for text, code in zip(texts, taken, strict=True):
        by_language[text.language][code] += 1
    rows = []
    own = _kept_where_wanted(texts, rule)
    for code, taken_for in sorted(
        by_language.items(), key=lambda item: -item[1]["en"] / item[1].total()
    ):
        total = taken_for.total()
        others = [(c, n) for c, n in taken_for.most_common() if c not in ("en", code)][:4]
        rows.append({
            "language": code,
            "texts": total,
            "taken for en, %": 100 * taken_for["en"] / total,
            "for itself, %": 100 * taken_for[code] / total,
            "kept where wanted, %": own.get(code, "not known"),
            "and for, %": " ".join(f"{c} {100 * n / total:.1f}" for c, n in others),
        })  # fmt: skip
    return rows


def _kept_where_wanted(texts: Texts, rule: LanguageRule) -> dict[str, float]:
    """By language that the rule can be asked for: percent of its own texts that are kept then."""
    its: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        its[text.language].append(text.text)
    shares = {}
    for code in its.keys() & set(LANGUAGES):
        wanted = dataclasses.replace(rule, language=code)
        wrong = wrong_languages(pa.array(its[code]), wanted).rows
        shares[code] = 100 - 100 * len(wrong) / len(its[code])
    return shares


def _columns(texts: Texts) -> dict[str, list[str]]:
    return {
        "100,000 English captions": captions(100_000),
        "all labelled texts": sorted({text.text for text in texts}),
    }


def _throughput(name: str, texts: list[str], rule: LanguageRule) -> dict[str, Any]:
    """`wrong_languages` in one thread against langdetect on every n-th of the same texts."""
    column, sample = pa.array(texts), texts[:: max(1, len(texts) // 1000)]
    wrong_languages(pa.array(["before the clock starts: langdetect's profiles"]), rule)
    langdetect_probability("before the clock starts", "en")
    times = []
    for _ in range(3):
        langdetect_probability.cache_clear()
        start = time.process_time()
        wrong = wrong_languages(column, rule).rows
        times.append(time.process_time() - start)
    asked = langdetect_probability.cache_info().misses
    langdetect_probability.cache_clear()
    start = time.process_time()
    for text in sample:
        langdetect_probability(text, "en")
    reference = len(sample) / (time.process_time() - start)
    ours = len(texts) / sorted(times)[1]
    return {
        "texts": name,
        "ours, texts/s": ours,
        "langdetect, texts/s": reference,
        "ratio": ours / reference,
        "left to langdetect, %": 100 * asked / len(texts),
        "kept, %": 100 - 100 * len(wrong) / len(texts),
    }


if __name__ == "__main__":
    main()
