"""The rule on personal data in alt-texts, as far as it has a form: e-mail addresses, phone numbers,
IBANs, and numbers of payment cards. Names and postal addresses have none."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from alignset.transforms.rules.rule import Limit, Measure, Rows, Stage

if TYPE_CHECKING:
    import pyarrow as pa

    from alignset.transforms.columns.records import Ints
    from alignset.transforms.rules.rule import Floats

KINDS = ("e-mail addresses", "IBANs", "card numbers", "phone numbers")
_OFF = 1_000_000
_REGION = "US"  # whose phone numbers are found without a country's code
# Seven digits with signs between them, or an @: of 1,000 titles of images, some 20 have that.
_MAY_HAVE = r"@|[0-9](?:[-+()./ ]{0,3}[0-9]){6}"
LONGEST, _MOST_TRIES = 4_096, 50  # characters of a text; its phone numbers that are not valid
_MARK = "\ue000"  # of a private area: in the place of what was found
# Each begins where a word does and has bounded repeats, so that it is linear in the text.
_EMAIL = re.compile(
    r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}"
    r"(?!(?i:png|jpe?g|gif|webp|svg|avif)\b)[A-Za-z]{2,24}(?![\w@])"  # as in logo@2x.png
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,29}")
_CARD = re.compile(
    r"(?<![0-9.,])(?:4[0-9]|5[1-5]|2[2-7]|6[0245]|3[457])[0-9]{2}(?:[ -]?[0-9]){11,12}(?![0-9])"
)
# Characters of an IBAN by country. Source: IBAN registry (ISO 13616), SWIFT, release 99.
_IBAN_LENGTHS = {
    country: int(length)
    for country, length in re.findall(
        "([A-Z]{2})([0-9]{2})",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 "
        "DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 "
        "IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 "
        "MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 "
        "SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30",
    )
}


def personal_data(texts: pa.StringArray) -> Ints:
    """How often n texts have each of KINDS in their first 4,096 characters: int64[n, 4]. Digits are
    ASCII."""
    import numpy as np
    import pyarrow.compute as pc

    counts = np.zeros((len(texts), len(KINDS)), np.int64)
    rows = pc.indices_nonzero(pc.match_substring_regex(texts, _MAY_HAVE))
    for row, text in zip(rows.to_pylist(), texts.take(rows).to_pylist(), strict=True):
        counts[row] = _counts_in(text)
    return counts


def _counts_in(text: str) -> list[int]:
    counts, rest = list[int](), text[:LONGEST].replace(_MARK, " ")
    for pattern, is_valid in _FORMS:
        rest = pattern.sub(partial(_mark_of, is_valid), rest)
        counts.append(rest.count(_MARK))
        rest = rest.replace(_MARK, ";")
    return [*counts, _phone_numbers(rest)]


def _mark_of(is_valid: Callable[[str], bool], found: re.Match[str]) -> str:
    return _MARK if is_valid(found[0]) else found[0]


def _phone_numbers(text: str) -> int:
    if not re.search(_MAY_HAVE.removeprefix("@|"), text):
        return 0
    from phonenumbers import PhoneNumberMatcher  # 30 ms, and more for each country

    # Ten digits in a row, without a "+", are any number.
    found = PhoneNumberMatcher(text, _REGION, max_tries=_MOST_TRIES)
    return sum(not match.raw_string.isdigit() for match in found)


def _is_iban(text: str) -> bool:
    """Whether an IBAN begins a text: by its country's length, and ISO 7064's check, mod 97."""
    iban = text.replace(" ", "")
    iban = iban[: _IBAN_LENGTHS.get(iban[:2], len(iban) + 1)]
    digits = "".join(str(int(character, 36)) for character in iban[4:] + iban[:4])
    return len(iban) == _IBAN_LENGTHS.get(iban[:2]) and int(digits) % 97 == 1


def _is_card(text: str) -> bool:
    """Whether digits are as many as a card has, and pass Luhn's check."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    is_long_enough = len(digits) == 16 or text.startswith(("34", "37"))
    return is_long_enough and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


_FORMS: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = (
    *((_EMAIL, lambda _: True), (_IBAN, _is_iban), (_CARD, _is_card)),
)


def _counted(rows: Rows) -> Floats:
    import pyarrow as pa

    return personal_data(pa.array(rows["text"], pa.string())).sum(axis=1)


MAX_PERSONAL_DATA = Limit(  # where it is on alone
    name="max_personal_data",
    default=_OFF,
    help=f"e-mail addresses, phone numbers, IBANs and card numbers in an alt-text, at most; {_OFF} "
    "looks for none",
    words="E-mail addresses, phone numbers, IBANs and card numbers of the text, at most",
    keeps="<=",
    measure=Measure(
        axis="personal_data",
        label="E-mail addresses, phone numbers, IBANs and card numbers of the text",
        short="personal data",
        of=lambda rows: rows["personal_data"],
        compute=_counted,
        column="personal_data",
        edges=range(1, 6),
        whole=True,
    ),
    reason="personal_data",
    step="personal_data",
    stage=Stage.TEXT,
    means="the alt-text has more [personal data](safety.md#personal-data-in-alt-texts) than the "
    "rule allows; this step is there with `--max_personal_data` alone",
    opened=_OFF,
)
