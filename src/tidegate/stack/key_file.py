"""The embedded warehouse's keys, where `tidegate up` keeps them: in secrets.json, and in the file of addresses."""

from __future__ import annotations

from dataclasses import replace

from dotenv import dotenv_values

from tidegate.errors import UsageError
from tidegate.sealing.keys import VARIABLE, Key, Keyring, parse
from tidegate.settings import PREFIX, Settings
from tidegate.stack import addresses
from tidegate.stack.home import Home
from tidegate.stack.secret import Secrets


def is_mine(settings: Settings) -> bool:
    """Return whether the keys are those that `tidegate up` made."""
    return not {"warehouse_url", "encryption_keys"} & addresses.external(settings)


def add(settings: Settings, key: Key) -> None:
    """Let a new key seal from now on; the others open still."""
    with Home(settings.home).lock(lambda _: None):
        keys = parse(Secrets.load(settings.home).encryption_keys)
        _write(settings, Keyring((key, *keys.keys)))


def drop(settings: Settings, name: str) -> None:
    """Let go of a key for good.

    Raises:
        UsageError: there is no such key, or it is the one that seals.
    """
    with Home(settings.home).lock(lambda _: None):
        keys = parse(Secrets.load(settings.home).encryption_keys)
        rest = tuple(key for key in keys.keys if key.id != name)
        if len(rest) == len(keys.keys) or name == keys.newest.id:
            raise UsageError(
                f"{name} is the key that seals, or none: {VARIABLE} has {', '.join(key.id for key in keys.keys)}. "
                "`tidegate keys new` and `rotate` come before an old key can go"
            )
        _write(settings, Keyring(rest))


def _write(settings: Settings, keys: Keyring) -> None:
    secrets = replace(Secrets.load(settings.home), encryption_keys=str(keys))
    secrets.save(settings.home)
    written = dotenv_values(settings.home / "env")
    ours = {knob: written[PREFIX + knob.upper()] or "" for knob in addresses.KNOBS if PREFIX + knob.upper() in written}
    addresses.write(settings.home, {**ours, "encryption_keys": str(keys)})
