"""The job server's jar: nothing but a manifest that names the jars beside it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

MAIN = "org.apache.beam.runners.flink.FlinkJobServerDriver"


def write_job_server(parts: Path) -> None:
    """Writes `job-server.jar`, for `java -jar` and for --flink_job_server_jar.

    The job server sends its class path to Flink with each job, and that is this file alone.
    """
    jars = " ".join(
        f"job-server/{jar.name}" for jar in sorted((parts / "job-server").glob("*.jar"))
    )
    manifest = "".join(
        _wrapped(line)
        for line in ("Manifest-Version: 1.0", f"Main-Class: {MAIN}", f"Class-Path: {jars}")
    )
    aside = parts / "job-server.part"
    with zipfile.ZipFile(aside, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", manifest)
    os.replace(aside, parts / "job-server.jar")


def _wrapped(line: str) -> str:
    """A line of a manifest, which has at most 72 bytes; the next line continues behind a blank."""
    first, rest = line[:72], line[72:]
    parts = [first, *(f" {rest[at : at + 71]}" for at in range(0, len(rest), 71))]
    return "".join(f"{part}\r\n" for part in parts)
