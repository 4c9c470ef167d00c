"""How a PostgreSQL of ours differs from the defaults, and why: a setting that the stack writes has its reason here.

For a laptop of 2 cores and 8 GiB that loads in bulk and reads by scans. Durability is untouched.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

_LINUX = os.name == "posix" and os.uname().sysname == "Linux"

#: What every server gets, with the reason.
_TUNED: Mapping[str, tuple[str, str]] = {
    "shared_buffers": ("512MB", "the demo year and its indexes fit, and 8 GiB leave Spark and dbt enough"),
    "effective_cache_size": ("2GB", "what the operating system keeps of files beside that: plans by index are believed cheap"),
    "work_mem": ("32MB", "a sort or hash of a month of flights stays in memory"),
    "maintenance_work_mem": ("256MB", "a staged batch gets its indexes before it is attached, in one pass over its rows"),
    "max_wal_size": ("4GB", "months taken in one after the other do not force a checkpoint each"),
    "min_wal_size": ("512MB", "segments are used again rather than made anew between two deliveries"),
    "checkpoint_timeout": ("15min", "fewer full pages in the WAL while batches are copied in"),
    "checkpoint_completion_target": ("0.9", "a checkpoint is spread over its interval"),
    "wal_compression": ("off", "pglz takes longer to squeeze a new index than the disk to write it; lz4 is not in every build"),
    "random_page_cost": ("1.1", "the disk is no turning one: a page out of order costs what the next one does"),
    "effective_io_concurrency": ("100" if _LINUX else "0", "bitmap scans ask a solid-state disk for many pages at once, where Linux can"),
    "jit": ("off", "compiling takes longer than the important queries have"),
    "max_parallel_workers": ("4", "twice the cores: more would only take turns"),
    "max_parallel_workers_per_gather": ("2", "one query does not take all of them"),
    "max_connections": ("100", "Airflow's pools and dbt's threads; applications come through PgBouncer"),
    "timezone": ("UTC", "an instant is shown the same on every machine"),
    "log_timezone": ("UTC", "the log and the ledger can be read side by side"),
    "log_line_prefix": ("%m [%p] %q%u@%d ", "who, in which database: two share the server"),
    "max_slot_wal_keep_size": (
        "4GB", "what a slot keeps back for a replica that is gone must not fill the disk: beyond this the replica is made anew"
    ),
    "log_min_error_statement": ("panic", "a statement's text may hold a password or a person's data: only its error goes to the log"),
}  # fmt: skip

TUNING: Mapping[str, str] = {name: value for name, (value, _) in _TUNED.items()}

#: Why others are set whose values depend on the server's place, its build or its part in a pair; `initdb` sets some.
_BY_PLACE: Mapping[str, str] = {
    "listen_addresses": "nothing of an embedded stack is reached from another machine",
    "port": "the first free one from the checkout's own: two checkouts do not disturb each other",
    "unix_socket_directories": "everybody comes in by TCP and a password, the server's own account, too",
    "archive_mode": "a backup can be brought to any moment after it (`stack/wal_archive.py`)",
    "archive_timeout": "half of the minute that may be lost; the other half is for an archiver that is busy",
    "archive_command": "a script that writes, syncs and only then renames a segment",
    "shared_preload_libraries": "what has to be there before the first session: the counter of statements, the log of reads",
    "pgaudit.role": "reads of what the role `auditor` may read are logged: the classified columns",
    "pgaudit.log": "what changes is in `ops.audit`, in the transaction that changes it; the log is for reads alone",
    "pgaudit.log_statement": "the text of a statement may hold a value that it asks for",
    "pgaudit.log_parameter": "so may its parameters",
    "pgaudit.log_catalog": "clients that look at the catalog read no classified column",
    "synchronous_standby_names": "TIDEGATE_REPLICA_SYNCHRONOUS: a commit waits until the replica has it on disk",
    "hot_standby_feedback": "a long reader on the replica is not cut off by rows that were cleared away here",
    "default_text_search_config": "initdb wrote it; no index of the warehouse searches texts",
    "dynamic_shared_memory_type": "initdb found what this machine can do",
    "lc_messages": "initdb ran with LC_ALL=C: errors read the same everywhere, and are recognised",
}


def why(name: str) -> str | None:
    """Return why a setting is not PostgreSQL's default; None where nobody has said."""
    known = {key.lower(): reason for key, reason in _BY_PLACE.items()}
    known |= {key.lower(): reason for key, (_, reason) in _TUNED.items()}
    return known.get(name.lower())
