"""The programs of the embedded Kafka: a Java that is on this machine, and jars that Maven fetches once, held to their hashes.

Which jars these are stands in `kafka.pom.xml`, what each must hold in `kafka.sha256`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tidegate.errors import StackError
from tidegate.stack.process import indent

POM = Path(__file__).with_name("kafka.pom.xml")
HASHES = Path(__file__).with_name("kafka.sha256")
OLDEST_JAVA = 17


def version() -> str:
    """Return the version of Kafka that the pom names."""
    found = re.search(r"<artifactId>kafka_2\.13</artifactId>\s*<version>([\d.]+)</version>", POM.read_text())
    assert found
    return found[1]


def wanted() -> dict[str, str]:
    """Return the SHA-256 of each jar by its name."""
    return {name: digest for digest, name in (line.split() for line in HASHES.read_text().splitlines())}


@cache
def java() -> str:
    """Return the path of `java`; raises StackError with the command to type where there is none that Kafka runs on."""
    home = os.environ.get("JAVA_HOME")
    seen = []
    for found in (shutil.which("java", path=f"{home}/bin") if home else None, shutil.which("java")):
        if found is None:
            continue
        told = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
        number = re.search(r'version "(\d+)', told)
        if number and int(number[1]) >= OLDEST_JAVA:
            return found
        seen.append(f"{number[1] if number else 'an unknown one'} at {found}")
    raise StackError(
        f"no Java {OLDEST_JAVA} or newer on this machine (found: {', '.join(seen) or 'none'}), and Kafka runs on one. "
        f"Type: {_install('openjdk-17-jre-headless', 'maven')}"
    )


def provide(folder: Path) -> Path:
    """Have the jars in `folder`, fetched where it is not there yet, and return it; a killed call leaves no half of it.

    Raises:
        StackError: there is no Maven, it cannot fetch, or what it fetched is something else.
    """
    if folder.is_dir():
        return folder
    making = folder.with_name(f"{folder.name}.making-{os.getpid()}")
    making.mkdir(mode=0o755, parents=True)
    try:
        _fetch(making)
        _hold_to_hashes(making)
        making.chmod(0o755)
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _fetch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise StackError(
            f"no `mvn` on this machine, which fetches Kafka {version()} (45 MB). Type: {_install('maven')}. Or name a Kafka "
            "of your own in TIDEGATE_KAFKA_URL"
        )
    done = subprocess.run(
        [
            *(maven, "--quiet", "--batch-mode", "--strict-checksums", "--file", POM),
            *("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"),
        ],
        # What it needs besides, it would put beside the pom.
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAVA_HOME": str(Path(java()).resolve().parents[1])},
    )
    if done.returncode:
        raise StackError(
            f"Maven could not fetch Kafka {version()}; the end of what it says:\n{indent(done.stdout + done.stderr)}\n"
            "    Expected: a repository that answers (a mirror stands in ~/.m2/settings.xml). Then run `tidegate up` again."
        )


def _hold_to_hashes(folder: Path) -> None:
    found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in folder.glob("*.jar")}
    if found != (expected := wanted()):
        other = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        raise StackError(
            f"what Maven fetched for Kafka {version()} is not what {HASHES.name} tells: {', '.join(other)}. Nothing of it is "
            "used; ask whoever runs the repository"
        )


def _install(*packages: str) -> str:
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get update && {sudo}apt-get install --yes {' '.join(packages)}"
