"""The short form of the hostile internet; `python tests/hostile_run.py` is the long one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
    script = Path(__file__).parent / "hostile_run.py"
    command = [sys.executable, str(script), "--answers=300"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
