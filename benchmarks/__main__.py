"""Every measurement, one after the other: each in a process of its own, each writes its results.json.

.venv/bin/python -m benchmarks [NAME …] [--rounds N]

The demo year is taken in once for all that measure on it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.stack import KEPT_YEAR

HERE = Path(__file__).parent
NAMES = sorted(path.parent.name for path in HERE.glob("*/measure.py"))


def main() -> None:
    """Run those named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; all when none is named")
    parser.add_argument("--rounds", type=int, help="how often each thing is measured, where a measurement has rounds")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        sys.exit(f"no measurement is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    rounds = [] if arguments.rounds is None else [f"--rounds={arguments.rounds}"]
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as kept:
        Path(kept).chmod(0o711)
        where = {KEPT_YEAR: kept, **os.environ}
        for name in arguments.names or NAMES:
            print(f"── {name}", flush=True)
            command = [sys.executable, "-m", f"benchmarks.{name}.measure", *rounds]
            subprocess.run(command, cwd=HERE.parent, env=where, check=True)


if __name__ == "__main__":
    main()
