"""How many sockets a process may open, in processes of their own with limits of their own."""

import subprocess
import sys

import pytest

from tests.support.root import ROOT

ASK = """
import logging, resource, sys
logging.basicConfig(format="%(message)s")
from alignset.transforms.fetching.open_files import socket_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
print(socket_limit(int(sys.argv[3])), socket_limit(int(sys.argv[3])))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def limits(soft: int, hard: int, wanted: int = 4096) -> tuple[int, int, list[str]]:
    """Sockets, the soft limit afterwards, and the lines that were said."""
    command = [sys.executable, "-c", ASK, str(soft), str(hard), str(wanted)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    first, again, raised = done.stdout.split()
    assert first == again
    return int(first), int(raised), done.stderr.splitlines()


@pytest.mark.parametrize(("soft", "hard"), [(256, 256), (100, 100), (40, 40)])
def test_few_are_kept_to_and_told_of_once(soft: int, hard: int):
    sockets, raised, said = limits(soft, hard)
    assert 1 <= sockets <= max(1, soft - 64)
    assert raised == soft
    (line,) = said
    assert line.startswith(f"this process may open {soft} files, so at most {sockets} connections")
    assert "ulimit -n" in line


def test_a_soft_limit_is_raised():
    sockets, raised, said = limits(256, 4000)
    assert (raised, said) == (4000, [])
    assert 3000 < sockets <= 4000 - 64


def test_no_line_where_the_user_wants_no_more():
    assert limits(256, 256, wanted=16)[2] == []
