"""Programs in Java: a Java that is on this machine, and jars that Maven fetches once, held to their hashes.

Which jars these are stands in a POM (`kafka.pom.xml`), what each must hold in the list beside it (`kafka.sha256`).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tidegate.errors import StackError
from tidegate.stack.process import indent

OLDEST_JAVA = 17


@dataclass(frozen=True)
class Jars:
    """The jars of one POM.

    `name` is what they make up, `artifact` the one among them whose version is theirs, `size` what they weigh in words.
    `otherwise` ends the error of a machine without Maven: what one can do without them.
    """

    name: str
    pom: Path
    artifact: str
    size: str
    otherwise: str = ""

    @property
    def hashes(self) -> Path:
        """The file with the SHA-256 of each."""
        return self.pom.with_name(self.pom.name.removesuffix(".pom.xml") + ".sha256")

    @property
    def version(self) -> str:
        """The version that the POM names."""
        found = re.search(
            rf"<artifactId>{re.escape(self.artifact)}</artifactId>\s*<version>([^<]+)<", self.pom.read_text()
        )
        assert found
        return found[1]

    def wanted(self) -> dict[str, str]:
        """Return the SHA-256 of each jar by its name."""
        return {name: digest for digest, name in (line.split() for line in self.hashes.read_text().splitlines())}

    def provide(self, folder: Path) -> Path:
        """Have the jars in `folder`, fetched where it is not there yet, and return it; a killed call leaves no half of it.

        Raises:
            StackError: there is no Maven, it cannot fetch, or what it fetched is something else.
        """
        if folder.is_dir():
            return folder
        making = folder.with_name(f"{folder.name}.making-{os.getpid()}")
        making.mkdir(mode=0o755, parents=True)
        try:
            self._fetch(making)
            self._hold_to_hashes(making)
            making.chmod(0o755)
            making.rename(folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return folder

    def _fetch(self, folder: Path) -> None:
        runtime, maven = Path(java()).resolve().parents[1], shutil.which("mvn")
        if maven is None:
            raise StackError(
                f"no `mvn` on this machine, which fetches {self.name} {self.version} ({self.size}). "
                f"Type: {_install('maven')}{self.otherwise}"
            )
        done = subprocess.run(
            [
                *(maven, "--quiet", "--batch-mode", "--strict-checksums", "--file", self.pom),
                *("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"),
            ],
            # What it needs besides, it would put beside the pom.
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "JAVA_HOME": str(runtime)},
        )
        if done.returncode:
            raise StackError(
                f"Maven could not fetch {self.name} {self.version}; the end of what it says:\n"
                f"{indent(done.stdout + done.stderr)}\n"
                "    Expected: a repository that answers (a mirror stands in ~/.m2/settings.xml). Then run it again."
            )

    def _hold_to_hashes(self, folder: Path) -> None:
        found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in folder.glob("*.jar")}
        if found != (expected := self.wanted()):
            other = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            raise StackError(
                f"what Maven fetched for {self.name} {self.version} is not what {self.hashes.name} tells: "
                f"{', '.join(other)}. Nothing of it is used; ask whoever runs the repository"
            )


KAFKA = Jars(
    "Kafka", Path(__file__).with_name("kafka.pom.xml"), "kafka_2.13", "45 MB", ". Or name a Kafka of your own in TIDEGATE_KAFKA_URL"
)  # fmt: skip


@cache
def java() -> str:
    """Return the path of `java`; raises StackError with the command to type where there is none that our programs run on."""
    home = os.environ.get("JAVA_HOME")
    seen = []
    for found in (shutil.which("java", path=f"{home}/bin") if home else None, shutil.which("java")):
        if found is None:
            continue
        number = java_version(found)
        if number is not None and number >= OLDEST_JAVA:
            return found
        seen.append(f"{number or 'an unknown one'} at {found}")
    raise StackError(
        f"no Java {OLDEST_JAVA} or newer on this machine (found: {', '.join(seen) or 'none'}), and Kafka runs on one. "
        f"Type: {_install('openjdk-17-jre-headless', 'maven')}"
    )


def java_version(program: str) -> int | None:
    """Return the version of Java, as 17, that a `java` says it is; None where it does not say."""
    told = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    number = re.search(r'version "(\d+)', told)
    return int(number[1]) if number else None


def _install(*packages: str) -> str:
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get update && {sudo}apt-get install --yes {' '.join(packages)}"
