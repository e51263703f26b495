"""Runs our parsers on public test suites that package registries ship: `make suites`.

    python -m tests.suites [--expected] [SUITE ...]

Exit status 1: a suite and ours disagree where that is not expected, or no longer where it is.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from collections import Counter

from tests.suites.case import Case
from tests.suites.expected import EXPECTED

SUITES = (*("html", "encodings", "srcset", "urls", "robots", "tars", "images"), "opt_outs")
_LONGEST = 300  # characters of what is printed


def _shown(case: Case, because: str = "") -> str:
    head = f"  {case.name!r:.{_LONGEST}}" + (f"  [{because}]" if because else "")
    return f"{head}\n    theirs {case.theirs!r:.{_LONGEST}}\n    ours   {case.ours!r:.{_LONGEST}}"


def run(suite: str, show_expected: bool) -> bool:
    """Runs a suite, prints what it found, and returns whether that is as expected."""
    rules = [rule for rule in EXPECTED if rule.suite == suite]
    cases, met, lines = 0, Counter[str](), []
    for case in importlib.import_module(f"tests.suites.{suite}").cases():
        cases += 1
        if case.agrees:
            continue
        rule = next((rule for rule in rules if rule.fits(case)), None)
        met[rule.pattern if rule else ""] += 1
        if rule is None or show_expected:
            lines.append(_shown(case, rule.reason if rule else ""))
    found, surprises = met.total(), met.pop("", 0)
    print(f"{suite:18}{cases:8,}{cases - found:8,}{found:11,}{found - surprises:10,}", flush=True)
    for rule in rules:
        if met[rule.pattern] != rule.count:
            lines.append(f"  {met[rule.pattern]} disagree, expected {rule.count}: {rule.reason}")
            surprises += 1
    for line in lines:
        print(line)
    return not surprises


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    parser.add_argument("--expected", action="store_true", help="print the expected ones, too")
    flags = parser.parse_args()
    if unknown := set(flags.suites) - set(SUITES):
        parser.error(f"there is no suite {sorted(unknown)}: {', '.join(SUITES)}")
    warnings.simplefilter("ignore")  # Pillow's, of what is broken
    print(f"{'suite':18}{'cases':>8}{'agreed':>8}{'disagreed':>11}{'expected':>10}")
    good = True
    for suite in flags.suites or SUITES:
        try:
            good &= run(suite, flags.expected)
        except RuntimeError as error:  # a package that cannot be had
            print(f"{suite:18} not run: {error}")
            good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
