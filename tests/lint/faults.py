"""Each fault of tests/seeded_faults.toml fits the sources, and its tests are there."""

import tomllib

from tests.seeded_faults import FAULTS, Fault
from tests.support.root import ROOT


def test_each_fault_fits() -> None:
    faults = [Fault(name, **row) for name, row in tomllib.loads(FAULTS.read_text()).items()]
    texts = {fault.file: (ROOT / fault.file).read_text() for fault in faults}
    assert [fault.name for fault in faults if texts[fault.file].count(fault.old) != 1] == []
    tests = {f"tests/{test}" for fault in faults for test in fault.tests}
    assert [test for test in sorted(tests) if not (ROOT / test).exists()] == []
