"""The jars of Flink and of Beam's job server, which Maven downloads."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from alignset.pipeline.errors import UsageError

_POM = Path(__file__).with_name("pom.xml")
# Beam's job server sends all jars of its class path with each job (157 MB to each machine), but
# jars in a folder of this name. All processes of Flink have them already.
_NOT_STAGED = "gradle/wrapper"
_JAVA = 17


def jars() -> Path:
    """The folder of the jars of this version; ALIGNSET_FLINK may name another place for it."""
    place = os.environ.get("ALIGNSET_FLINK") or Path.home() / ".cache" / "alignset" / "flink"
    return Path(place).absolute() / hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]


def class_path() -> str:
    """Java's class path of each process."""
    return str(jars() / _NOT_STAGED / "*")


def install() -> None:
    """Downloads the jars, unless they are there.

    Raises:
      UsageError: Maven is missing, or has failed.
    """
    if jars().exists():
        return
    if not shutil.which("mvn"):
        raise UsageError("Maven (mvn) is not on the PATH: apt-get install maven")
    print(f"160 MB from Maven, to {jars()}: about 20 s", flush=True)
    aside = jars().with_suffix(".part")
    shutil.rmtree(aside, ignore_errors=True)
    maven = ("mvn", "-q", "-B", "-Dstyle.color=never", "-f", str(_POM))
    copy = ("dependency:copy-dependencies", "-DincludeScope=runtime")
    if subprocess.call([*maven, *copy, f"-DoutputDirectory={aside / _NOT_STAGED}"]):
        raise UsageError("Maven could not download the jars: see above")
    aside.rename(jars())


def check() -> None:
    """Raises UsageError where the jars or Java 17 are missing."""
    if not jars().exists():
        raise UsageError(f"{jars()} does not exist: alignset cluster install")
    try:
        said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
        found = re.search(r'version "(\d+)', said.stderr)
    except OSError:
        found = None
    if not found or int(found[1]) < _JAVA:
        version = f"got Java {found[1]}" if found else "no java is on the PATH"
        raise UsageError(
            f"Java {_JAVA} is needed, {version}: apt-get install openjdk-17-jre-headless"
        )
