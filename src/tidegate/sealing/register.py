"""The warehouse's list of keys: which one sealed what is there, and whether the one at hand is the same."""

from __future__ import annotations

from tidegate.errors import NoKeyError, WrongKeyError
from tidegate.sealing.keys import VARIABLE, Keyring
from tidegate.stores.postgres import Connection


def introduce(connection: Connection, keys: Keyring) -> None:
    """Write the newest key's name down before it seals, in the caller's transaction, and hold all keys against the list.

    Raises:
        WrongKeyError: a key of that name has sealed here before, and was another one.
    """
    rows = connection.execute(
        "SELECT key_id, check_value FROM ops.encryption_key WHERE key_id = ANY(%s)", [[key.id for key in keys.keys]]
    ).fetchall()
    known = {row["key_id"]: row["check_value"] for row in rows}
    for key in keys.keys:
        if known.get(key.id, key.check.hex()) != key.check.hex():
            raise WrongKeyError(
                f"the key {key.id} of {VARIABLE} is not the one that sealed what this warehouse holds: nothing would open "
                f"any more. Put the right {key.id} there, or give the new key another name and keep the old one behind it"
            )
    connection.execute(
        "INSERT INTO ops.encryption_key (key_id, check_value) VALUES (%s, %s) "
        "ON CONFLICT (key_id) DO UPDATE SET retired_at = NULL WHERE encryption_key.retired_at IS NOT NULL",
        [keys.newest.id, keys.newest.check.hex()],
    )


def require_in_use(connection: Connection, keys: Keyring) -> None:
    """Make sure, in a transaction that writes, that the newest key was introduced and not retired since; takes no lock.

    Raises:
        NoKeyError: it was retired, as by a rotation to a key that whoever works for long has not heard of.
        WrongKeyError: a key of that name has sealed here, and is another one.
    """
    row = connection.execute(
        "SELECT check_value, retired_at FROM ops.encryption_key WHERE key_id = %s", [keys.newest.id]
    ).fetchone()
    if row is None or row["check_value"] != keys.newest.check.hex():
        introduce(connection, keys)
    elif row["retired_at"] is not None:
        raise NoKeyError(
            f"the key {keys.newest.id} was retired at {row['retired_at']:%Y-%m-%d %H:%M:%S}, and this process seals under it "
            "still: start it again, and it takes the newest one; nothing was written"
        )
