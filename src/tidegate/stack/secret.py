"""Passwords and keys of the embedded servers: generated once, kept in one file of mode 0600."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tidegate.errors import StackError
from tidegate.sealing.keys import Keyring, generate
from tidegate.stack.home import write_private

#: Roles that the embedded server lets in by a password of their own.
LOGINS = ("app", "migration", "readonly", "analyst", "admin", "backup")


def _password() -> str:
    """Return 192 random bits in characters that need no quoting in an address, a shell or a file."""
    return secrets.token_hex(24)


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


@dataclass(frozen=True)
class Secrets:
    """What must not be seen; its repr shows no value."""

    postgres_password: str = field(default_factory=_password, repr=False)
    warehouse_password: str = field(default_factory=_password, repr=False)
    airflow_database_password: str = field(default_factory=_password, repr=False)
    airflow_admin_password: str = field(default_factory=_password, repr=False)
    airflow_fernet_key: str = field(default_factory=_fernet_key, repr=False)
    airflow_jwt_secret: str = field(default_factory=_password, repr=False)
    airflow_api_secret: str = field(default_factory=_password, repr=False)
    encryption_keys: str = field(default_factory=lambda: str(Keyring((generate("k1"),))), repr=False)
    """Of the embedded warehouse's confidential columns, the one that seals first; lost, they are lost."""
    redis_password: str = field(default_factory=_password, repr=False)
    redis_keeper_password: str = field(default_factory=_password, repr=False)
    kafka_password: str = field(default_factory=_password, repr=False)
    kafka_keeper_password: str = field(default_factory=_password, repr=False)
    kafka_controller_password: str = field(default_factory=_password, repr=False)
    """By which the broker shows itself to its own controller."""
    pool_password: str = field(default_factory=_password, repr=False)
    """Of the pool's console."""
    replication_password: str = field(default_factory=_password, repr=False)
    logins: dict[str, str] = field(default_factory=lambda: {role: _password() for role in LOGINS}, repr=False)
    """Password of each role, and of each login that is bound to a tenant."""

    @classmethod
    def load(cls, home: Path) -> Secrets:
        """Read `secrets.json`, generating what it lacks; calling it again returns the same.

        Raises StackError when the file is there but is not what this program writes.
        """
        path = home / "secrets.json"
        kept: dict[str, Any] = {}
        if path.exists():
            try:
                kept = json.loads(path.read_text())
                found = cls(**kept)
            except (ValueError, TypeError):
                raise StackError(
                    f"{path} is not the JSON object of passwords that `tidegate up` writes. "
                    "Restore it, or move it away: new passwords are generated and set, but what is sealed stays closed."
                ) from None
        else:
            found = cls()
        if asdict(found) != kept or path.stat().st_mode & 0o077:
            found.save(home)
        return found

    def save(self, home: Path) -> None:
        """Write `secrets.json` in one step."""
        write_private(home / "secrets.json", json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def renew_logins(cls, home: Path, logins: Iterable[str]) -> dict[str, str]:
        """Generate and keep new passwords for logins; return those of all logins."""
        found = cls.load(home)
        fresh = replace(found, logins={**found.logins, **{login: _password() for login in logins}})
        fresh.save(home)
        return fresh.logins

    @classmethod
    def of_login(cls, home: Path, login: str) -> str:
        """Return the password of a login, generated and kept at the first call."""
        found = cls.load(home)
        if login not in found.logins:
            found = replace(found, logins={**found.logins, login: _password()})
            found.save(home)
        return found.logins[login]
