"""Every measurement, one after the other: each in a process of its own, each writes its results.json.

.venv/bin/python -m benchmarks [NAME …]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(path.parent.name for path in HERE.glob("*/measure.py"))


def main() -> None:
    """Run those named, or all."""
    wanted = sys.argv[1:] or NAMES
    if unknown := set(wanted) - set(NAMES):
        sys.exit(f"no measurement is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    for name in wanted:
        print(f"── {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}.measure"], cwd=HERE.parent, check=True)


if __name__ == "__main__":
    main()
