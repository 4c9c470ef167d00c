"""A backup is whole and known to be, or it is none; what cannot be kept is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from tests.backup.conftest import Kept

from tidegate.backup import retention, shelf, take, wal
from tidegate.backup.lsn import SEGMENT, is_segment, number_of, position
from tidegate.backup.moment import Moment
from tidegate.backup.restore import restore
from tidegate.backup.shelf import Backup
from tidegate.errors import BackupError, BusyError, UnavailableError
from tidegate.stack import warehouse

KEEP = Path(warehouse.__file__).with_name("wal_keep.sh")


def test_a_flipped_byte_fails_verification_and_the_backup_counts_no_longer(kept: Kept) -> None:
    taken = kept.json("take")["taken"]
    assert taken["verified_at"]
    data = kept.home / "backups/base" / taken["backup_id"] / "data"
    victim = max((data / "base").rglob("[0-9]*"), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)

    refused = kept.run("verify", taken["backup_id"])
    assert isinstance(refused.exception, BackupError)
    assert f"backup {taken['backup_id']} is damaged" in str(refused.exception)
    assert f'checksum mismatch for file "{victim.relative_to(data)}"' in str(refused.exception)
    assert shelf.find(kept.settings, taken["backup_id"]).verified_at is None
    query = f"SELECT verified_at FROM ops.backup WHERE backup_id = '{taken['backup_id']}'"
    assert kept.ask(query) == [(None,)]


def test_a_gap_in_the_wal_is_named(kept: Kept) -> None:
    taken = take.take(kept.settings)
    server = warehouse.reach(kept.settings)
    for name in ("A", "B", "C"):
        kept.write(name)
        wal.flush(server, wal.Archive(kept.archive))
    take.verify(kept.settings, taken)
    segments = sorted(path for path in kept.archive.iterdir() if len(path.stem) == 24)
    away = segments[-2].rename(kept.home / segments[-2].name)
    with pytest.raises(BackupError, match=f"has a gap: {segments[-2].stem} and 0 others are missing"):
        take.verify(kept.settings, taken)
    away.rename(segments[-2])
    assert take.verify(kept.settings, taken).verified_at


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let nobody but root write into a folder."""
    mode, owner = folder.stat().st_mode, folder.stat().st_uid
    folder.chmod(0o500)
    try:
        yield
    finally:
        folder.chmod(mode)
        assert folder.stat().st_uid == owner


def test_an_archive_that_takes_nothing_is_told_and_nothing_is_lost(kept: Kept) -> None:
    taken = take.take(kept.settings)
    with locked(kept.archive):
        kept.write("A")
        kept.ask("SELECT pg_switch_wal()")
        patience = time.monotonic() + 20
        while not wal.look(warehouse.reach(kept.settings)).failing:
            assert time.monotonic() < patience
            time.sleep(0.1)
        assert "WAL: the server cannot archive its WAL" in kept.run("list").output
        assert "cannot archive its WAL" in kept.json("list")["trouble"]
        with pytest.raises(BackupError, match=r"cannot archive its WAL: 0000000.* failed at .* segments wait"):
            take.verify(kept.settings, taken)
    # PostgreSQL tries again by itself: after a minute at the latest, or when it is told to read its settings.
    wal.flush(warehouse.reach(kept.settings), wal.Archive(kept.archive), patience=90)
    assert kept.json("list")["trouble"] is None
    assert take.verify(kept.settings, taken).verified_at


def test_a_full_disk_leaves_no_half_backup(kept: Kept, tool: str) -> None:
    before = shelf.backups(kept.settings)
    small = kept.home / "backups" / {"pg_basebackup": "base", "pgbackrest": "pgbackrest"}[tool]
    small.mkdir(exist_ok=True)
    words = [sys.executable, "-c", "import tidegate.cli; tidegate.cli.main()", "backup", "take", "--kind", "full"]
    # A disk of four megabytes that only this process sees; where none may be mounted, files that may have no more.
    fill = 'mount -t tmpfs -o size=4m tmpfs "$0" && "$@"; status=$?; find "$0" -name "20*" >&2; exit $status'
    mine = [] if os.geteuid() == 0 else ["--map-root-user"]
    mounted = ["unshare", *mine, "--mount", "sh", "-c", fill, str(small)]
    may = subprocess.run([*mounted, "true"], capture_output=True, check=False).returncode == 0
    words = [*(mounted if may else ["prlimit", f"--fsize={1 << 20}"]), *words]
    ended = subprocess.run(words, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "no backup was taken: no space left on the disk; free some and run this again" in ended.stderr
    assert ended.stderr.strip().endswith(")"), "nothing was found on the disk afterwards"
    assert (shelf.backups(kept.settings), kept.unfinished()) == (before, [])
    assert take.take(kept.settings, "full").size > 4 << 20


def test_a_take_that_was_killed_leaves_nothing_that_counts(kept: Kept) -> None:
    before = shelf.backups(kept.settings)
    words = [sys.executable, "-c", "import tidegate.cli; tidegate.cli.main()", "backup", "take"]
    with subprocess.Popen(words, env=dict(os.environ), start_new_session=True, stdout=subprocess.DEVNULL) as taking:
        while not list((kept.home / "backups/base").glob("*.partial/data/base")):
            assert taking.poll() is None
            time.sleep(0.01)
        os.killpg(taking.pid, signal.SIGKILL)
    assert len(kept.unfinished()) == 1
    assert shelf.backups(kept.settings) == before
    take.take(kept.settings)
    assert kept.unfinished() == []


@contextmanager
def ending(*words: str) -> Iterator[None]:
    """Kill the first program of ours whose command line holds these words, as soon as it is there."""
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for child in psutil.Process().children():
                with suppress(psutil.Error):
                    if set(words) <= {Path(word).name for word in child.cmdline()}:
                        child.kill()
                        return

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()


def test_a_program_that_was_ended_is_run_again_and_leaves_no_half_backup(kept: Kept, tool: str) -> None:
    before = shelf.backups(kept.settings)
    words = {"pg_basebackup": ["pg_basebackup"], "pgbackrest": ["pgbackrest", "backup"]}[tool]
    with (
        ending(*words),
        pytest.raises(UnavailableError, match=f"{tool} was ended by SIGKILL before it was done; run this"),
    ):
        take.take(kept.settings, "full")
    assert (shelf.backups(kept.settings), kept.unfinished()) == (before, [])
    assert take.take(kept.settings, "full").size > 4 << 20


def test_a_backup_whose_check_was_ended_is_not_taken_for_whole(kept: Kept, tool: str) -> None:
    taken = take.take(kept.settings)
    words = {"pg_basebackup": ["pg_verifybackup"], "pgbackrest": ["pgbackrest", "verify"]}[tool]
    with ending(*words), pytest.raises(UnavailableError, match="was ended by SIGKILL"):
        take.verify(kept.settings, taken)
    assert shelf.find(kept.settings, taken.backup_id).verified_at is None
    assert take.verify(kept.settings, taken).verified_at


def test_two_do_not_change_the_shelf_at_once(kept: Kept) -> None:
    with take.alone(kept.settings), pytest.raises(BusyError, match="the shelf of backups is being worked on"):
        take.take(kept.settings)


def test_an_incremental_backup_holds_what_changed_and_goes_with_the_one_that_it_needs(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_BACKUP_TOOL", "pgbackrest")
    # Tests before this one share the shelf, and have left verified ones.
    for known in shelf.backups(kept.settings):
        shelf.keep(shelf.folder_of(kept.settings, known.backup_id), replace(known, verified_at=None))
    refused = kept.run("take", "--kind", "incremental")
    assert "there is no verified backup of pgbackrest to base an incremental one on" in str(refused.exception)
    full = kept.json("take")["taken"]
    kept.write("A")
    time, _ = kept.write("B")
    small = kept.json("take")["taken"]
    assert (full["kind"], small["kind"], small["based_on"]) == ("full", "incremental", full["backup_id"])
    assert small["size"] < full["size"] / 2
    kept.write("C")

    restored = restore(kept.settings, Moment())
    try:
        assert restored.backup.backup_id == small["backup_id"]
        assert kept.names(restored.server.dsn("warehouse")) == ["A", "B", "C"]
    finally:
        restored.remove()
    restored = restore(kept.settings, Moment.read(time))
    try:
        assert restored.backup.backup_id == full["backup_id"], "the newer one ended after that moment"
        assert kept.names(restored.server.dsn("warehouse")) == ["A", "B"]
    finally:
        restored.remove()

    label = (kept.home / "backups/base" / full["backup_id"] / "label").read_text().split()[1]
    repository = kept.home / "backups/pgbackrest/backup" / kept.archive.name
    victim = max((repository / label).rglob("*.zst"), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    for backup_id in (full["backup_id"], small["backup_id"]):
        with pytest.raises(BackupError, match=f"backup {backup_id} is damaged: .*{victim.name}"):
            take.verify(kept.settings, shelf.find(kept.settings, backup_id))

    monkeypatch.setenv("TIDEGATE_BACKUPS_KEPT", "1")
    done = kept.json("take")
    assert done["taken"]["kind"] == "full", "nothing is based on what is damaged"
    assert {full["backup_id"], small["backup_id"]} <= set(done["removed"])
    assert [path.name for path in repository.glob("20*") if path.is_dir() and path.name.startswith(label)] == []


def some(count: int, *, verified: set[int]) -> list[Backup]:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    one = Backup("", "full", "x", "7", 1, "0/1000028", "0/1000100", began, began, 1)
    return [
        replace(
            one, backup_id=str(n), started_at=began + timedelta(n), verified_at=began if n in verified else None
        )
        for n in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("verified", "kept", "gone"),
    [
        ({0, 1, 2, 3}, 2, ["0", "1"]),
        ({0, 1, 2}, 2, ["0"]),  # the newest is not known to be whole: it replaces none
        ({0}, 1, []),
        (set(), 1, []),
        ({1}, 1, ["0"]),
        ({0, 1, 2, 3}, 4, []),
    ],
)
def test_an_old_backup_goes_only_when_enough_newer_ones_are_whole(
    verified: set[int], kept: int, gone: list[str]
) -> None:
    assert [backup.backup_id for backup in retention.outlived(some(4, verified=verified), kept)] == gone


def test_pruning_removes_what_was_outlived_and_the_wal_that_only_it_needed(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = take.verify(kept.settings, take.take(kept.settings))
    monkeypatch.setenv("TIDEGATE_BACKUPS_KEPT", "1")
    new = take.take(kept.settings)
    retention.prune(kept.settings)
    assert old in shelf.backups(kept.settings), "the newer one was not verified yet"
    take.verify(kept.settings, new)
    removed = retention.prune(kept.settings)
    assert old in removed
    (left,) = shelf.backups(kept.settings)
    assert left.backup_id == new.backup_id
    archive = wal.Archive(kept.archive)
    needed = position(new.start_lsn) // SEGMENT
    assert min(number_of(name) for name in archive.names() if is_segment(name)) == needed
    take.verify(kept.settings, left)
    rows = kept.ask(
        f"SELECT removed_at IS NULL FROM ops.backup WHERE backup_id IN ('{old.backup_id}', '{new.backup_id}')"
    )
    assert sorted(rows) == [(False,), (True,)]


def keep(segment: Path, folder: Path, name: str = "000000010000000000000001") -> subprocess.CompletedProcess[str]:
    words = ["sh", str(KEEP), str(segment), name, str(folder)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_a_segment_is_kept_once_and_never_overwritten(tmp_path: Path) -> None:
    folder, segment = tmp_path / "wal", tmp_path / "segment"
    folder.mkdir()
    segment.write_bytes(os.urandom(1 << 20))
    assert keep(segment, folder).returncode == 0
    (kept,) = folder.iterdir()
    content = kept.read_bytes()
    assert keep(segment, folder).returncode == 0, "PostgreSQL may ask twice for the same"
    segment.write_bytes(b"something else")
    refused = keep(segment, folder)
    assert refused.returncode == 1
    assert "is there already and holds something else" in refused.stderr
    assert kept.read_bytes() == content


@pytest.mark.parametrize("milliseconds", [1, 5, 10, 20, 40, 80])
def test_a_segment_is_kept_whole_wherever_its_keeper_was_killed(tmp_path: Path, milliseconds: int) -> None:
    folder, segment = tmp_path / "wal", tmp_path / "segment"
    folder.mkdir()
    segment.write_bytes(os.urandom(16 << 20))
    words = ["sh", str(KEEP), str(segment), "000000010000000000000001", str(folder)]
    with subprocess.Popen(words, start_new_session=True) as keeping:
        time.sleep(milliseconds / 1000)
        os.killpg(keeping.pid, signal.SIGKILL)
    assert keep(segment, folder).returncode == 0
    (kept,) = folder.iterdir()
    unpack = {".zst": "zstd", ".gz": "gzip"}[kept.suffix]
    assert subprocess.run([unpack, "-dc", kept], capture_output=True, check=True).stdout == segment.read_bytes()
