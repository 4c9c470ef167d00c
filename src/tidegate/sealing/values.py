"""One value sealed and opened: AES-256-GCM in an envelope that names its key; where values lie is told elsewhere.

An envelope is 0xF5, which no text in UTF-8 holds; the length of the key's name, and the name; four bytes that tell the
key from others of that name; a nonce of 12 random bytes; the ciphertext with its tag of 16 bytes.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tidegate.errors import DamagedValueError
from tidegate.sealing.keys import Key, Keyring

MARK = 0xF5
_CHECK, _NONCE, _TAG = 4, 12, 16
#: Of an envelope in a column of text.
_ARMOUR = "sealed:"


class Seal:
    """Seals and opens the values of one place, such as `bookings.email`: sealed there, a value opens nowhere else."""

    def __init__(self, keys: Keyring, place: str) -> None:
        self.keys, self.place, self._bound = keys, place, place.encode()
        self.head = head_of(keys.newest)
        self._ciphers: dict[bytes, AESGCM] = {self.head: AESGCM(keys.newest.secret)}
        self._last = self.head

    def close(self, values: Sequence[bytes | None]) -> list[bytes | None]:
        """Return the values sealed under the newest key, each under a nonce of its own; None stays None."""
        head, bound, encrypt = self.head, self._bound, self._ciphers[self.head].encrypt
        # Drawn at once, and no call but the cipher's in the loop: it goes over every confidential value of a delivery.
        nonces = os.urandom(_NONCE * len(values))
        places = range(0, len(nonces), _NONCE)
        return [
            None if value is None else head + (nonce := nonces[at : at + _NONCE]) + encrypt(nonce, value, bound)
            for at, value in zip(places, values, strict=True)
        ]

    def open(self, values: Iterable[bytes | None]) -> list[bytes | None]:
        """Return what was sealed.

        Raises:
            NoKeyError, WrongKeyError: the key of a value is not at hand.
            DamagedValueError: a value is no envelope, was altered, or was sealed in another place.
        """
        return [None if value is None else self._opened(value) for value in values]

    def renew(self, values: Iterable[bytes | None]) -> list[bytes | None]:
        """Return the values under the newest key; those that are under it stay as they are. Raises as `open` does."""
        found = list(values)
        old = [n for n, value in enumerate(found) if value is not None and not value.startswith(self.head)]
        for n, value in zip(old, self.close(self.open(found[n] for n in old)), strict=True):
            found[n] = value
        return found

    def _opened(self, value: bytes) -> bytes:
        # Values that come one after the other are mostly under one key.
        if not value.startswith(self._last):
            self._last = self._known_head_of(value)
        start = len(self._last) + _NONCE
        try:
            return self._ciphers[self._last].decrypt(value[start - _NONCE : start], value[start:], self._bound)
        except (InvalidTag, ValueError):
            raise DamagedValueError(
                f"a value of {self.place} was altered after it was sealed, or brought here from another column: {_WHAT_TO_DO}"
            ) from None

    def _known_head_of(self, value: bytes) -> bytes:
        end = _end_of_head(value)
        if end is None:
            raise DamagedValueError(f"a value of {self.place} is not sealed, or damaged: {_WHAT_TO_DO}")
        head = value[:end]
        if head not in self._ciphers:
            self._ciphers[head] = AESGCM(self.keys.find(key_of(value) or "", head[-_CHECK:]).secret)
        return head


_WHAT_TO_DO = "bring it back from a backup, or deliver its partition again"


def key_of(value: bytes) -> str | None:
    """Return the name of the key that a value is sealed under; None if it is not sealed."""
    end = _end_of_head(value)
    return None if end is None else value[2 : end - _CHECK].decode("ascii", "replace")


def armour(sealed: bytes) -> str:
    """Return an envelope as text, for columns of text."""
    return _ARMOUR + base64.b64encode(sealed).decode()


def from_armour(text: str) -> bytes | None:
    """Return the envelope that a text is, None if it is an ordinary text."""
    if not text.startswith(_ARMOUR):
        return None
    try:
        return base64.b64decode(text.removeprefix(_ARMOUR), validate=True)
    except binascii.Error:
        return None


def head_of(key: Key) -> bytes:
    """Return how every envelope begins that was sealed under the key."""
    return bytes((MARK, len(key.id))) + key.id.encode("ascii") + key.check


def _end_of_head(value: bytes) -> int | None:
    """Return where the nonce begins, None if the value is no envelope."""
    if len(value) < 2 or value[0] != MARK:
        return None
    end = 2 + value[1] + _CHECK
    return end if value[1] and len(value) >= end + _NONCE + _TAG else None
