"""`sbatch flink/slurm.sh` on machines: queued again, out of time, without a worker or its head; and
the trainer's script."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator

import pytest
import torch

from alignset.flink.jars import jars
from tests.support.machines import HOST, Machines, until, why_not
from tests.support.root import ROOT
from tests.support.serving import serving
from tests.support.small_web import SmallWeb
from tests.support.train_shards import colour_shards
from tests.support.web_run import WebRun

NODES = ("w1", "w2", "w3")
_TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
WHY_NOT = why_not() or (
    "" if all(map(shutil.which, _TOOLS)) else "needs Slurm (Debian: slurmctld slurmd slurm-client)"
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(WHY_NOT), reason=f"2026-12-02: {WHY_NOT}"),
]
# Jobs wait for as long as credentials of their last start are valid: 5 s, not 2 minutes.
CONFIG = """
MpiDefault=none
ClusterName=machines
SlurmctldHost=login
SlurmUser=root
AuthInfo=socket=/tmp/munge/socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmdTimeout=20
KillWait=20
SlurmctldPidFile=/tmp/slurmctld.pid
SlurmdPidFile=/tmp/slurmd.pid
StateSaveLocation=/tmp/slurmctld
SlurmdSpoolDir=/tmp/slurmd
PartitionName=all Nodes=ALL Default=YES
"""


class Slurm:
    """Slurm's controller on `login`, and a node on each of the others."""

    def __init__(self, machines: Machines) -> None:
        self.machines, folder = machines, machines.folder
        nodes = [f"NodeName={name} CPUs=1 RealMemory=6000\n" for name in NODES]
        (folder / "slurm.conf").write_text(CONFIG + "".join(nodes))
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        self.values = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "ALIGNSET_FLINK": str(jars().parent),
        }
        for name in ("login", *NODES):
            self.boot(name)
        until(lambda: "idle 3" in self.say("sinfo -h -o '%T %D'"), "idle nodes")

    def boot(self, name: str) -> None:
        machines = self.machines
        machines.boot(name)
        machines.script(name, "mount -t tmpfs tmpfs /sys/fs/cgroup && mkdir -m 755 /tmp/munge")
        munge = [f"--{what}-file=/tmp/munge/{what}" for what in ("pid", "log", "seed")]
        key = f"--key-file={machines.folder}/munge.key"
        machines.run(name, "munged", "-F", "-f", "--socket=/tmp/munge/socket", key, *munge)
        daemon = ("slurmctld", "-D") if name == "login" else ("slurmd", "-D", "-N", name)
        machines.script(name, "until test -S /tmp/munge/socket; do sleep 0.1; done")
        machines.run(name, *daemon, **self.values)

    def say(self, script: str) -> str:
        log = self.machines.folder / "said"
        log.unlink(missing_ok=True)
        self.machines.run("login", "bash", "-c", script, log=log, **self.values).wait()
        return log.read_text()

    def state(self, job: str) -> str:
        return self.say(f"squeue -h -j {job} -t all -o %T").strip()


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    machines = Machines(tmp_path_factory.mktemp("slurm"))
    with contextlib.closing(machines):
        yield Slurm(machines)


def test_a_job_outlives_requeue_its_time_a_worker_and_its_first_node(slurm: Slurm):
    folder = slurm.machines.folder
    with serving(SmallWeb((HOST, 0))) as web:
        run = WebRun(web, folder)
        words = f"--nodes=3 --cpus-per-task=1 --mem=0 --signal=B:USR1@30 --output={folder}/job.log"
        curate = f"flink/slurm.sh {' '.join(run.flags)} --output={folder}/set"
        job = slurm.say(f"sbatch --parsable {words} {curate}").strip()
        alive = lambda: slurm.state(job) not in ("COMPLETED", "FAILED")  # noqa: E731
        with run.held(alive):
            slurm.say(f"scontrol requeue {job}")
            until(lambda: slurm.state(job) == "PENDING", "job that is queued again")
        with run.held(alive):
            slurm.say(f"scontrol update jobid={job} timelimit=1")
            until(lambda: slurm.state(job) == "PENDING", "job that is queued again")
            slurm.say(f"scontrol update jobid={job} timelimit=30")
        for name, role in (("w3", "worker"), ("w1", "head")):
            with run.held(alive):
                slurm.machines.script(name, f"pkill -KILL -f '[p]ython.*alignset cluster {role}'")
                line = f"killed on {name} (status 137), and started again: alignset cluster {role}"
                until(lambda line=line: line in (folder / "job.log").read_text(), line)
        with run.held(alive):
            slurm.machines.lose("w1")
            until(lambda: slurm.state(job) == "PENDING", "job that is queued again")
            slurm.boot("w1")
        until(lambda: not alive(), "end of the job")
        log = (folder / "job.log").read_text()
        assert slurm.state(job) == "COMPLETED", log
        run.check(folder / "set", log)
    for line in ("the job is ended", "the time runs out", "queued again, to go on"):
        assert f"slurm.sh: {line}" in log, log


def test_training_by_srun_is_one_run_that_outlives_a_warning(slurm: Slurm):
    """The script of the page, without its options."""
    folder = slurm.machines.folder
    log, metrics = folder / "training.log", folder / "run/metrics.jsonl"
    flags = f"--shards {colour_shards(folder / 'shards')} --output {folder}/run --preset tiny"
    flags += " --crop_px=32 --resize_px=36 --batch_size=8 --vocabulary_size=99 --warmup_steps=1"
    flags += " --steps=100 --log_every=1"
    (script,) = re.findall(
        r"```sh\n(#!/bin/bash\n.*?)```", (ROOT / "docs/train.md").read_text(), re.S
    )
    script = re.sub(r"(?m)^#SBATCH.*\n", "", script)
    (folder / "train.sh").write_text(re.sub(r"--shards .*", flags, script))
    words = f"--nodes=2 --ntasks-per-node=1 --mem=0 --requeue --open-mode=append --output={log}"
    job = slurm.say(f"sbatch --parsable {words} {folder}/train.sh").strip()
    until(lambda: metrics.exists() and metrics.read_text().count("\n") > 2, "steps")
    slurm.say(f"scancel --signal=USR1 {job}")
    until(lambda: slurm.state(job) in ("COMPLETED", "FAILED"), "end of the training")
    said = log.read_text()
    assert slurm.state(job) == "COMPLETED", said
    assert re.search(r"resuming after step \d+ of 100\n", said), said
    kept = [torch.load(path) for path in (folder / "run/checkpoints").glob("*.pt")]
    assert {len(state["processes"]) for state in kept} == {2}
