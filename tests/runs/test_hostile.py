"""The short form of the hostile internet; `python -m tests.support.hostile_run` is the long one."""

import shutil
import subprocess
import sys

import pytest

from tests.support.root import ROOT

pytestmark = pytest.mark.slow
ENTER = ("unshare", "--user", "--map-root-user", "--net", "--mount", "ip", "link")


def _can_enter() -> bool:
    if not all(map(shutil.which, ("unshare", "ip", "openssl"))):
        return False
    return not subprocess.run(ENTER, capture_output=True, check=False).returncode


@pytest.mark.skipif(
    not _can_enter(),
    reason="2026-11-24: needs user namespaces, which some machines forbid, iproute2 and openssl",
)
def test_every_hostile_answer_ends_in_one_right_way():
    command = [sys.executable, "-m", "tests.support.hostile_run", "--answers=300"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
