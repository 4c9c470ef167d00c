"""The keys that values are sealed under, as the environment has them; no key is ever written to the warehouse."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

from tidegate.errors import NoKeyError, UsageError, WrongKeyError
from tidegate.settings import Settings

VARIABLE = "TIDEGATE_ENCRYPTION_KEYS"
_ID = re.compile(r"[a-z0-9]{1,16}")
_BYTES = 32
_FORM = f"{VARIABLE}: expected `k2:…,k1:…`, each a name of small letters and digits and {_BYTES} bytes as base64"


@dataclass(frozen=True)
class Key:
    """One key of AES-256 and the name by which sealed values call for it; its repr shows no secret."""

    id: str
    secret: bytes = field(repr=False)

    @property
    def check(self) -> bytes:
        """Four bytes that tell this key from another of the same name, and nothing about it."""
        return hmac.digest(self.secret, b"tidegate: which key is it", hashlib.sha256)[:4]

    def __str__(self) -> str:
        return f"{self.id}:{base64.b64encode(self.secret).decode()}"


@dataclass(frozen=True)
class Keyring:
    """All keys at hand; the first one seals, every one opens."""

    keys: tuple[Key, ...]

    @property
    def newest(self) -> Key:
        """The key that seals."""
        return self.keys[0]

    def find(self, name: str, check: bytes) -> Key:
        """Return the key that a value was sealed under.

        Raises:
            NoKeyError: there is none of that name.
            WrongKeyError: the one of that name is another key.
        """
        for key in self.keys:
            if key.id == name:
                if key.check != check:
                    raise WrongKeyError(
                        f"the key {name} of {VARIABLE} is not the key {name} that this was sealed under; put the right one there"
                    )
                return key
        raise NoKeyError(
            f"this was sealed under key {name}, and {VARIABLE} has {', '.join(key.id for key in self.keys)} only: add "
            f"`,{name}:…` to it, from where your old keys are kept. `tidegate keys list` shows what still needs it"
        )

    def __str__(self) -> str:
        return ",".join(map(str, self.keys))


def keyring(settings: Settings) -> Keyring:
    """Return the keys of the settings.

    Raises:
        NoKeyError: there are none.
        UsageError: they are not of the form that is expected.
    """
    found = settings.encryption_keys.get_secret_value().strip() if settings.encryption_keys else ""
    if not found:
        raise NoKeyError(
            f"confidential columns are sealed, and there is no key: expected {VARIABLE}. `tidegate up` makes one for its own "
            "warehouse; for a warehouse of yours `tidegate keys new` prints one to put into .env, and to keep in a safe place"
        )
    return parse(found)


def parse(text: str) -> Keyring:
    """Read `k2:base64,k1:base64`; what is wrong is told without a word of the text, which is secret."""
    keys = tuple(_key(part.strip(), place) for place, part in enumerate(text.split(","), 1))
    names = [key.id for key in keys]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{_FORM}; found {twice} twice")
    return Keyring(keys)


def generate(name: str) -> Key:
    """Return a new key of that name."""
    return Key(name, secrets.token_bytes(_BYTES))


def _key(part: str, place: int) -> Key:
    name, _, encoded = part.partition(":")
    try:
        secret = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        secret = b""
    if not _ID.fullmatch(name) or len(secret) != _BYTES:
        raise UsageError(f"{_FORM}; found something else in place {place}")
    return Key(name, secret)
