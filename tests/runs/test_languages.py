"""A dataset in many languages: each text's language goes with it to every file of the output."""

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.commands import look
from tests.support.agreement import rows
from tests.support.command import run, samples, succeed
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb

# Two texts of each language; the last text's image is missing.
TEXTS = {
    "de": ["ein rotes Auto steht vor dem alten Haus", "zwei weiße Hunde laufen am Strand entlang"],
    "en": ["a red car in front of the old house", "two white dogs running along the beach"],
    "hi": ["बगीचे में पुरानी लकड़ी की मेज", "सड़क के किनारे एक लाल गाड़ी खड़ी है"],
    "ja": ["庭にある古い木のテーブル", "海辺を走る二匹の白い犬"],
    "th": ["โต๊ะไม้เก่าในสวนหลังบ้าน", "สุนัขสีขาวสองตัววิ่งบนชายหาด"],
    "und": ["1920 x 1080 - 300", "2026 11 29 - 14"],
}
FLAGS = ("--allow_private_addresses", "--max_unsafe_score=1", "--min_image_side=1", "--retries=0")


class Multilingual(NamedTuple):
    """A run over the texts, with its output."""

    source: Path
    web: SmallWeb
    output: Path


@pytest.fixture(scope="module")
def found(web: SmallWeb, tmp_path_factory: pytest.TempPathFactory) -> Multilingual:
    folder = tmp_path_factory.mktemp("languages")
    texts = [text for of_language in TEXTS.values() for text in of_language]
    names = [f"/languages/{number}" for number in range(len(texts))]
    web.files |= {name: encoded(photograph(n), "JPEG") for n, name in enumerate(names[:-1])}
    table = {"url": [web.url + name for name in names], "caption": texts}
    pq.write_table(pa.table(table), folder / "pairs.parquet")
    made = Multilingual(folder / "pairs.parquet", web, folder / "all")
    succeed(made.source, made.output, *FLAGS, "--language=all")
    return made


def test_sidecar_metadata_and_rejected_pairs_have_their_language(found: Multilingual) -> None:
    kept, dropped = rows(found.output, "shards"), rows(found.output, "rejected")
    language_of = {text: code for code, texts in TEXTS.items() for text in texts}
    assert {row["caption"]: row["language"] for row in (*kept, *dropped)} == language_of
    assert (len(kept), [row["reason"] for row in dropped]) == (11, ["fetch_failed"])
    votes = {row["language"]: row["language_votes"].split(",") for row in (*kept, *dropped)}
    assert all(votes[code].count(code) == 2 for code in TEXTS)
    said = [json.loads(files["json"]) for files in samples(found.output).values()]
    names = ("key", "language", "language_votes")
    of_kept = [[row[name] for name in names] for row in kept]
    assert [[row[name] for name in names] for row in said] == of_kept


def test_report_card_and_look_tell_of_languages(
    found: Multilingual, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = (found.output / "report.html").read_text()
    assert "<h3>Languages</h3>" in page
    assert "2 kept (100 %); median 7 words<" in page
    assert 'aria-label="th: median 7 words"><rect class="k" x="28" y="0.00"' in page
    card = (found.output / "README.md").read_text()
    assert 'language: ["de", "en", "hi", "ja", "th"]' in card
    assert "| `th` | 2 | 18.2% |" in card
    assert card.count('"name": "language_votes"') == 1
    croissant = json.loads((found.output / "croissant.json").read_text())
    assert "inLanguage" not in croissant
    fields = {field["name"].rpartition("/")[2] for field in croissant["recordSet"][0]["field"]}
    assert fields >= {"language", "language_votes"}
    output = f"--output={tmp_path}/look.html"
    assert look([str(found.output), "--language=th", output]) == 0
    shown = capsys.readouterr().out
    assert all(text in shown for text in TEXTS["th"])
    assert "2 kept pairs in th" in shown
    assert not any(text in shown for text in TEXTS["hi"])
    assert look([str(found.output), "--language=th", "--reason=dropped", output]) == 1
    assert look([str(found.output), "--language=und", "--reason=dropped", output]) == 0


def test_a_list_keeps_its_languages_alone(found: Multilingual, tmp_path: Path) -> None:
    ended = run(found.source, tmp_path / "set", "--text_only", "--language=ja,und,id")
    assert ended.status == 0
    assert ended.err.count("id is kept as ms; see docs/languages.md") == 1
    kept = Counter(row["language"] for row in rows(tmp_path / "set", "pairs"))
    assert kept == {"ja": 2, "und": 2}
    dropped = rows(tmp_path / "set", "rejected")
    assert {row["reason"] for row in dropped} == {"wrong_language"}
    assert all(row["detail"] == row["language"] for row in dropped)


def test_a_language_may_have_its_own_limits_of_words(found: Multilingual, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("# longer in Japanese\nja 8 30\nth 1 6\n")
    flags = ("--text_only", "--language=all", f"--words_per_language={tmp_path}/words.txt")
    succeed(found.source, tmp_path / "set", *flags)
    kept = Counter(row["language"] for row in rows(tmp_path / "set", "pairs"))
    assert kept == {"de": 2, "en": 2, "hi": 2, "ja": 1, "und": 2}  # one Japanese has 7 words
    reasons = {(row["language"], row["reason"]) for row in rows(tmp_path / "set", "rejected")}
    assert reasons == {("ja", "too_few_words"), ("th", "too_many_words")}
    rules = json.loads((tmp_path / "set" / "manifest.json").read_text())["rules"]
    assert rules["words_per_language"] == "ja:8-30,th:1-6"
    assert 'id="rule-min_words"' not in (tmp_path / "set" / "report.html").read_text()
    assert "--words_per_language=ja:8-30,th:1-6" in (tmp_path / "set" / "README.md").read_text()


def test_langdetect_finds_the_language_where_it_is_asked_to(
    found: Multilingual, tmp_path: Path
) -> None:
    flags = ("--text_only", "--language=de,en", "--language_detector=langdetect")
    succeed(found.source, tmp_path / "set", *flags)
    kept = rows(tmp_path / "set", "pairs")
    assert {row["caption"] for row in kept} == {*TEXTS["de"], *TEXTS["en"]}
    assert all(row["language"] == row["language_votes"] for row in kept)
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["rules"]["language_detector"] == "langdetect"
    assert manifest["versions"]["langdetect"]
    assert "pycld2" not in manifest["versions"]
    card = (tmp_path / "set" / "README.md").read_text()
    assert "By langdetect, in a sample" in card
    assert "--language_detector=langdetect" in card
    known = json.loads((found.output / "manifest.json").read_text())
    assert "language_detector" not in known["rules"]
    assert known["versions"].keys() - manifest["versions"].keys() == {"pycld2", "py3langid"}


def test_english_has_the_same_vocabulary_beside_other_languages(tmp_path: Path) -> None:
    """And each of them as large a part as English has."""
    texts = 3 * ["a red dog in the garden", "a red cat in the garden", "a red bird in the snow"]
    texts += 3 * [
        "ein roter Hund im Garten",
        "eine rote Katze im Garten",
        "ein roter Vogel im Wald",
    ]
    texts += [*(rare := ["one more rare sentence here", "ein seltener Satz kommt einmal"])]
    urls = [f"http://a.example/{number}" for number in range(len(texts))]
    pq.write_table(pa.table({"url": urls, "caption": texts}), tmp_path / "pairs.parquet")
    hashes = {}
    for language in ("en", "de", "de,en"):
        flags = ("--text_only", f"--language={language}", "--vocabulary_size=19")
        assert run(tmp_path / "pairs.parquet", tmp_path / language, *flags).status in (0, 1)
        of_run = np.fromfile(tmp_path / language / "vocabulary.u64", "<u8")
        hashes[language] = {*of_run.tolist()}
    files = [*tmp_path.glob("en/pairs/*.parquet"), *tmp_path.glob("en/rejected/*.parquet")]
    assert len(files) > 1
    assert not any("language" in pq.read_schema(path).names for path in files)
    both = json.loads((tmp_path / "de,en" / "manifest.json").read_text())["vocabulary"]
    sizes = {name: of["vocabulary"] for name, of in both["languages"].items()}
    assert len(hashes["en"]) == len(hashes["de"]) == sizes["en"] == 19
    assert len(hashes["de,en"]) == sizes["de"] + 19
    assert hashes["en"] <= hashes["de,en"]
    assert not hashes["en"] & hashes["de"]  # words of two languages are two n-grams
    shares = [of["share_of_occurrences"] for of in both["languages"].values()]
    assert abs(shares[0] - shares[1]) < 0.05
    dropped = [row["caption"] for row in rows(tmp_path / "de,en", "rejected")]
    assert sorted(dropped) == sorted(rare)
