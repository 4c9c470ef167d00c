"""Sealing: values that only a holder of the key can read, wherever they are written; which ones, contracts say."""

from tidegate.sealing.keys import Key, Keyring, keyring
from tidegate.sealing.values import Seal

__all__ = ["Key", "Keyring", "Seal", "keyring"]
