"""The memory of this process and of those that it has started."""

import os
import subprocess

from alignset.pipeline.report.process_memory import Memory, memory_of_processes


def test_this_process_and_its_children_are_counted():
    alone = memory_of_processes()
    assert 1 << 20 < alone.bytes < 1 << 40
    with subprocess.Popen(["sleep", "600"]) as child:
        both = memory_of_processes()
        assert memory_of_processes(child.pid).processes == 1
        child.kill()
    assert both.processes == alone.processes + 1


def test_a_process_that_has_ended_holds_nothing():
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED)
    assert memory_of_processes(child.pid) == Memory()
