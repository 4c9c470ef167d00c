"""What a password of a role must be: too long and too mixed to be guessed, wherever it comes from."""

from __future__ import annotations

import math

from tidegate.errors import UsageError

LENGTH = 20
#: Bits, were each of its different characters as likely as another at every place.
ENTROPY = 60


def require_strong(role: str, password: str) -> None:
    """Refuse a password that could be guessed; it is not repeated.

    Raises:
        UsageError: with what is expected.
    """
    bits = len(password) * math.log2(max(1, len(set(password))))
    if len(password) < LENGTH or bits < ENTROPY or (len(role) > 3 and role.lower() in password.lower()):
        raise UsageError(
            f"the password for role {role} could be guessed: expected {LENGTH} characters or more, mixed, and not the role's "
            "name among them. `openssl rand -hex 24` makes one"
        )
