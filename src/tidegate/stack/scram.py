"""Passwords as PostgreSQL keeps them: SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677), made and compared.

Passwords are those that tidegate generates, plain ASCII: nothing is normalised here.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import b64decode, b64encode

ITERATIONS = 4096
_VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)")


def verifier(password: str, *, salt: bytes | None = None, iterations: int = ITERATIONS) -> str:
    """Return what a server keeps to recognise the password by; it does not tell the password."""
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${iterations}:{_text(salt)}${_text(stored)}:{_text(server)}"


def matches(kept: str | None, password: str) -> bool:
    """Return whether `kept` is a verifier of this password."""
    found = _VERIFIER.fullmatch(kept or "")
    if not found:
        return False
    return hmac.compare_digest(found[0], verifier(password, salt=b64decode(found[2]), iterations=int(found[1])))


def _text(value: bytes) -> str:
    return b64encode(value).decode()
