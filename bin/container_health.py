"""Exit with 0 when Airflow's API server says that the component named is healthy (scheduler, …).

Asking the API costs 0.1 s; `airflow jobs check` would import Airflow for 6 s at every check.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request


def status(url: str, component: str) -> str:
    """Return what the API server at `url` knows of the component; raises OSError when it does not answer."""
    with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5) as answer:  # noqa: S310 - our own address
        health: dict[str, dict[str, str | None]] = json.load(answer)
    return str(health[component]["status"])


if __name__ == "__main__":
    sys.exit(status(os.environ["TIDEGATE_AIRFLOW_URL"], sys.argv[1]) != "healthy")
