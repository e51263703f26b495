"""Personal data in alt-texts: what counts, what does not, and what a hostile text costs."""

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.transforms.rules.personal_data import MAX_PERSONAL_DATA, personal_data
from alignset.transforms.rules.rule import Rows
from tests.support.command import funnel, kept, manifest, rejected, succeed

# By text, how many e-mail addresses, IBANs, card numbers and phone numbers it has.
TEXTS = {
    "a photo of two dogs": (0, 0, 0, 0),
    "write to jane.doe+x@mail.example.co.uk or JOE@example.org.": (2, 0, 0, 0),
    "@home with a dog @ the beach, a@b, 3@4.5": (0, 0, 0, 0),
    "logo@2x.png icon@3x.webp": (0, 0, 0, 0),
    "élodie@exämple.fr": (1, 0, 0, 0),
    "IBAN DE89 3704 0044 0532 0130 00, GB29NWBK60161331926819": (0, 2, 0, 0),
    "DE89 3704 0044 0532 0130 01 is no IBAN": (0, 0, 0, 0),
    "NO93 8601 1117 947 OSLO": (0, 1, 0, 0),
    "XX89 3704 0044 0532 0130 00": (0, 0, 0, 0),
    "paid by 4111 1111 1111 1111 and 378282246310005": (0, 0, 2, 0),
    "4111-1111-1111-1112": (0, 0, 0, 0),
    "call +49 30 1234567 or (650) 253-0000": (0, 0, 0, 2),
    "call 030 1234567": (0, 0, 0, 0),
    "IMG_6502530000.jpg 6502530000 1920x1080": (0, 0, 0, 0),
    "2012-05-14 10:20:30 of 1234 5678": (0, 0, 0, 0),
    "ISBN 978-3-16-148410-0, EAN 4006381333931": (0, 0, 0, 0),
    "jane@example.org, +44 20 7946 0958": (1, 0, 0, 1),
    "\ue000\ue000": (0, 0, 0, 0),
}


@pytest.mark.parametrize("text", TEXTS)
def test_what_counts(text: str) -> None:
    counts = personal_data(pa.array([text, "", text]))
    assert counts.tolist() == [[*TEXTS[text]], [0] * 4, [*TEXTS[text]]]


def test_the_rule_counts_all_kinds_together() -> None:
    texts = [*TEXTS]
    compute = MAX_PERSONAL_DATA.measure.compute
    assert compute is not None
    values = compute(Rows(text=texts))
    assert values.tolist() == [sum(TEXTS[text]) for text in texts]
    rows = Rows(personal_data=values)
    dropped = MAX_PERSONAL_DATA.dropped(rows, {MAX_PERSONAL_DATA.name: 1})
    assert dropped.tolist() == [sum(TEXTS[text]) > 1 for text in texts]
    assert compute(Rows(text=[])).tolist() == []


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "a",
            "a@",
            "a.",
            "@",
            "1",
            "1 ",
            "+1 650 253 0000 ",
            "(650) ",
            "DE89 ",
            "4111 ",
            "A1",
            "1-",
        ),
        *("jane@example.org ", "a@b.c.d.e.f.g.", "\uff11", "1" * 20 + " ", "+", "1.2/3-4(5)6 7"),
    ],
)
def test_cost_grows_as_the_text_does(piece: str) -> None:
    def calls(size: int) -> int:
        text, count = piece * (size // len(piece)) + " 650 253 0000", 0

        def counted(_: Any, event: str, __: Any) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        sys.setprofile(counted)
        try:
            personal_data(pa.array([text]))
        finally:
            sys.setprofile(None)
        return count

    calls(100)  # which imports
    assert calls(4000) <= 2.2 * calls(2000) + 1000
    assert calls(8000) == calls(16_000), "a long text is cut"


def test_a_run_counts_and_with_the_rule_drops(tmp_path: Path) -> None:
    """Also where a dataset is judged anew."""
    columns = {"url": [f"http://h/{n}" for n in range(len(TEXTS))], "text": [*TEXTS]}
    pq.write_table(pa.table(columns), source := tmp_path / "in.parquet")
    flags = ("--text_only", "--language=", "--min_words=0")
    succeed(source, tmp_path / "all", *flags)
    said = " ".join((tmp_path / "all/README.md").read_text().split())
    assert (
        f"A program looked through {len(TEXTS)} alt-texts for personal data: 3 have e-mail "
        "addresses, 2 have IBANs, 1 has card numbers, 2 have phone numbers." in said
    )
    assert "personal_data" not in pq.read_schema(tmp_path / "all/pairs/00000.parquet").names
    for given in (source, tmp_path / "all"):
        out = tmp_path / f"of-{given.stem}"
        succeed(given, out, *flags, "--max_personal_data=1")
        expected = {text for text, counts in TEXTS.items() if sum(counts) > 1}
        assert {of.caption for of in rejected(out)} == expected
        assert {of.reason for of in rejected(out)} == {"personal_data"}
        assert {of.caption for of in kept(out)} == {*TEXTS} - expected
        assert "personal_data" in {step["step"] for step in funnel(out)["steps"]}
        assert manifest(out)["rules"]["max_personal_data"] == 1
        read = pq.read_table(out / "pairs/00000.parquet")
        numbers = zip(read["caption"].to_pylist(), read["personal_data"].to_pylist(), strict=True)
        assert all(sum(TEXTS[text]) == number for text, number in numbers)
        card = (out / "README.md").read_text()
        assert "| `max_personal_data` | 1 |" in card
        assert "--max_personal_data=1" in card
