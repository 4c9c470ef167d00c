"""Every error the platform raises on purpose; whether to try again is its type.

TidegateError
├── TerminalError           trying again changes nothing: a person must act
│   ├── UsageError          the call's own words are off: an unknown dataset, a batch in another state
│   ├── ContractError       a contract is invalid, or would break what exists
│   ├── SourceError         a delivery cannot be read at all
│   ├── HeldError           a gate held the batch: published data is untouched
│   ├── StackError          a server cannot be had on this machine
│   ├── BackupError         a backup is damaged or missing, or what follows it is
│   ├── LeakError           a secret was about to be kept where others read it
│   ├── StrategyError       a strategy document cannot be read, or says what cannot be
│   └── SealError           what is sealed stays so
│       ├── NoKeyError      the key is not at hand
│       ├── WrongKeyError   a key of that name is, and another one was used
│       └── DamagedValueError  the value is not as it was sealed
└── TransientError          the same call may go through later: Airflow retries it
    ├── UnavailableError    a server or an address does not answer
    ├── BusyError           somebody else is doing the same work at this moment
    └── FencedError         somebody else took the work over while this process did not answer
"""

from __future__ import annotations


def first_line(error: Exception | str) -> str:
    """Return the first line of what somebody else's error, or its text, says; its type's name where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class TidegateError(Exception):
    """Base of all; its text says what was found, what was expected, and what to do next."""


class TerminalError(TidegateError):
    """Trying again changes nothing."""


class UsageError(TerminalError):
    """The call's own words are off."""


class NotBegunError(UsageError):
    """There is no delivery of that name."""


class ContractError(TerminalError):
    """A contract is invalid, or a change to it would break what exists."""


class SourceError(TerminalError):
    """A delivery cannot be read at all; no row of it was taken."""


class HeldError(TerminalError):
    """A gate held the batch; what is published stays as it was."""


class StackError(TerminalError):
    """A server of the embedded stack cannot be had on this machine."""


class BackupError(TerminalError):
    """A backup, or the WAL after it, is not what a restore needs."""


class LeakError(TerminalError):
    """A secret was about to be committed; nothing was."""


class StrategyError(TerminalError):
    """A strategy document cannot be read, or what it says cannot be."""


class SealError(TerminalError):
    """A value cannot be sealed, or what is sealed cannot be opened."""


class NoKeyError(SealError):
    """The key is not at hand."""


class WrongKeyError(SealError):
    """There is a key of that name, and it is another one."""


class DamagedValueError(SealError):
    """A value is not as it was sealed, or not where it was sealed."""


class TransientError(TidegateError):
    """The same call may go through later."""


class UnavailableError(TransientError):
    """A server or an address does not answer."""


class BusyError(TransientError):
    """Somebody else is doing the same work at this moment."""


class FencedError(TransientError):
    """Somebody else took the work over while this process did not answer; what it wrote last is not kept."""
