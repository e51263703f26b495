"""Workers of another machine, here in a mount namespace, do not see all that the launcher sees."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.portability.python_urns import EMBEDDED_PYTHON

from tests.support.command import run_process
from tests.support.root import ROOT

UNSHARE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")


@pytest.mark.slow
def test_paths_that_a_worker_does_not_see_end_the_command_with_one_line(tmp_path: Path):
    if subprocess.run([*UNSHARE, "true"], capture_output=True).returncode:
        pytest.skip("mount namespaces need root, or unprivileged user namespaces")
    hidden, seen, port = (tmp_path / name for name in ("hidden", "seen", "port"))
    for folder in (hidden, seen):
        folder.mkdir()
        table = pa.table({"url": ["http://a.example/1"], "caption": ["a dog on the beach"]})
        pq.write_table(table, folder / "6.parquet")
    serve = f"exec {sys.executable} -m apache_beam.runners.portability.local_job_service_main"
    mount = f"mount -t tmpfs none {hidden} && {serve} --port_file={port} --staging_dir={tmp_path}"
    with (tmp_path / "log").open("w") as log:
        service = subprocess.Popen([*UNSHARE, mount], cwd=ROOT, stdout=log, stderr=log)
    try:
        while not port.exists():
            assert service.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        runner = ("--runner=PortableRunner", f"--job_endpoint=localhost:{port.read_text()}")
        for source, out, said in (
            (seen, hidden / "out", f"{hidden}/out: --output must be on a file system that all "),
            (hidden, tmp_path / "out", f"{hidden}/6.parquet: all machines must"),
        ):
            places = (f"--input={source}", f"--output={out}", "--text_only")
            ended = run_process(*places, *runner, f"--environment_type={EMBEDDED_PYTHON}")
            assert ended.status == 1
            *log_lines, last = ended.err.splitlines()
            assert f": failed: {socket.gethostname()} does not see {said}" in last
            assert [line for line in log_lines if 'File "' in line] == [], "a traceback"
            assert not [*out.glob("pairs/*")]
    finally:
        service.terminate()
        service.wait()
