"""One run out of the tasks that Slurm's `srun` starts. Imports no torch."""

import os
import re
from collections.abc import MutableMapping

_FIRST_PORT, _PORTS = 20_000, 12_000  # below those that Linux gives to whoever asks for any


def join_tasks(environment: MutableMapping[str, str] = os.environ) -> None:
    """Says in torchrun's variables what Slurm says of its tasks, where `srun` starts several.

    torchrun's own variables count more: `srun torchrun` stays as it is.

    >>> step = {"SLURM_STEP_NUM_TASKS": "16", "SLURM_PROCID": "9", "SLURM_LOCALID": "1"}
    >>> step |= {"SLURM_STEP_NODELIST": "gpu[07-08],big1", "SLURM_STEP_TASKS_PER_NODE": "8(x2)"}
    >>> step["SLURM_JOB_ID"] = "41"
    >>> join_tasks(step)
    >>> [step[name] for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE")]
    ['9', '1', '8', '16']
    >>> step["MASTER_ADDR"], step["MASTER_PORT"]
    ('gpu07', '20041')
    """
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    if "WORLD_SIZE" in environment or int(tasks) < 2 or "SLURM_PROCID" not in environment:
        return
    of_node = re.match(r"\d+", environment.get("SLURM_STEP_TASKS_PER_NODE", tasks))
    port = _FIRST_PORT + int(environment.get("SLURM_JOB_ID", "0")) % _PORTS
    said = {
        "WORLD_SIZE": tasks,
        "RANK": environment["SLURM_PROCID"],
        "LOCAL_RANK": environment.get("SLURM_LOCALID", "0"),
        "LOCAL_WORLD_SIZE": of_node[0] if of_node else tasks,
        "MASTER_ADDR": first_host(environment.get("SLURM_STEP_NODELIST", "localhost")),
        "MASTER_PORT": str(port),
    }
    for name, value in said.items():
        environment.setdefault(name, value)


def first_host(hosts: str) -> str:
    """The first of a list of hosts as Slurm writes it.

    >>> first_host("gpu[007-016,20],big1"), first_host("a1-ib,a2"), first_host("r[1-2]n[3,5]-x")
    ('gpu007', 'a1-ib', 'r1n3-x')
    """
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", hosts)
    return re.sub(r"\[([^-,\]]*)[^\]]*\]", r"\1", first[0] if first else hosts)
