"""One person, as those who search know them: by columns that contracts tag `personal`, and keyed hashes of their values.

The hashes are enough to find the person's rows, also again after a restore; nobody is recognised by them without the key.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidegate.contracts import Contract
from tidegate.errors import UsageError
from tidegate.sealing import Key

PERSONAL = "personal"
_PURPOSE = b"tidegate: whom it is about"
#: What stands around the values of a line that was no record, or of a message that was no object.
_BETWEEN = re.compile(r"[,;|\t\s\"'{}\[\]]+")


def personal(contract: Contract) -> tuple[str, ...]:
    """Return the columns of a dataset that hold personal data."""
    return tuple(column.name for column in contract.columns if PERSONAL in column.tags)


@dataclass(frozen=True)
class Person:
    """Who has, in each of `columns`, the value of which the digest is; `key_id` names the key of the digests."""

    columns: tuple[str, ...]
    digests: tuple[str, ...]
    key_id: str
    secret: bytes = field(repr=False, compare=False)

    @classmethod
    def called(cls, words: Iterable[str], contracts: Iterable[Contract], key: Key) -> Person:
        """Read `email=ada@example.org`, `document_number=X…`: whoever has all of these.

        Raises:
            UsageError: a word is of another form, or names a column that no contract tags as personal.
        """
        known = sorted({name for contract in contracts for name in personal(contract)})
        given: dict[str, str] = {}
        for word in words:
            column, equals, value = word.partition("=")
            if not equals or column not in known or not value:
                found = column if equals else "something without `=`"
                raise UsageError(f"found {found!r}, expected COLUMN=VALUE with a personal column: {', '.join(known)}")
            given[column] = value
        if not given:
            raise UsageError("who is it? expected COLUMN=VALUE, such as email=ada@example.org")
        secret = derived(key)
        digests = tuple(_digest(secret, column, value) for column, value in sorted(given.items()))
        return cls(tuple(sorted(given)), digests, key.id, secret)

    def is_known_to(self, contract: Contract) -> bool:
        """Return whether the dataset has the columns by which the person is known."""
        return set(self.columns) <= set(personal(contract))

    def is_in(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row, of values by column, is the person's."""
        return all(self._is(n, row.get(column)) for n, column in enumerate(self.columns))

    def is_anywhere_in(self, texts: Iterable[str]) -> bool:
        """Return whether all that names the person is among texts as they were delivered, in whichever column or line."""
        words = {word for text in texts for word in (text, *_BETWEEN.split(text))}
        return all(any(self._is(n, word) for word in words) for n in range(len(self.columns)))

    def _is(self, n: int, value: Any) -> bool:
        return value is not None and _digest(self.secret, self.columns[n], str(value)) == self.digests[n]


def derived(key: Key) -> bytes:
    """Return the secret of the digests: another one than that which seals."""
    return hmac.digest(key.secret, _PURPOSE, hashlib.sha256)


def _digest(secret: bytes, column: str, value: str) -> str:
    return hmac.digest(secret, f"{column}\0{value}".encode(), hashlib.sha256).hex()
