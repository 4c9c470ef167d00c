"""React to a stream: print each micro-batch's rows as they become visible. Needs psycopg and the warehouse's address.

    eval "$(tidegate env)"; python docs/examples/listen.py [SECONDS]

PostgreSQL tells what happened while one listens; whoever was away asks for what came since the last `_batch_id` that it knows.
"""

from __future__ import annotations

import json
import os
import sys

import psycopg


def main() -> None:
    """Listen for some seconds, or for ever."""
    patience = float(sys.argv[1]) if len(sys.argv) > 1 else None
    with psycopg.connect(os.environ["TIDEGATE_WAREHOUSE_URL"], autocommit=True) as connection:
        connection.execute("LISTEN tidegate_stream")
        print("listening", flush=True)
        for notice in connection.notifies(timeout=patience):
            told = json.loads(notice.payload)
            print(f"{told['dataset']}: {told['rows']} rows by micro-batch {told['batch_id']}", flush=True)


if __name__ == "__main__":
    main()
