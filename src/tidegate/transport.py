"""Which addresses may be spoken to: on this machine in any way, elsewhere with TLS alone; nothing is connected here."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from urllib.parse import parse_qs, unquote, urlsplit

from tidegate.errors import UsageError

#: Modes of libpq in which nothing goes over the network in plain; the last one alone knows whom it speaks to.
MODES = ("require", "verify-ca", "verify-full")


def require_tls(variable: str, url: str, trusted: str = "") -> None:
    """Refuse an address of another machine that is spoken to in plain; `trusted` are hosts, with commas, that may be.

    Raises:
        UsageError: with what to write instead; the address is not repeated, for it holds a password.
    """
    scheme = url.partition("://")[0].lower()
    if scheme in ("postgresql", "postgres"):
        if "@" in url and "@" not in url.partition("://")[2].partition("/")[0].partition("?")[0]:
            # What stands before it may be a part of the password.
            raise UsageError(
                f"{variable} has an @ where no host can be: special characters in it must be percent-encoded"
            )
        hosts, mode = list(_hosts(url)), _mode(url)
        safe, advice = (
            mode in MODES,
            "add `?sslmode=verify-full` (and `&sslrootcert=…` where the authority is your own)",
        )
        found = f"sslmode={mode}" if mode else "no sslmode"
    elif scheme in ("http", "redis", "redis+sentinel", "kafka", "sc"):
        # Of sentinels and brokers there are several.
        places = urlsplit(url).netloc.rpartition("@")[2].split(",")
        hosts = [urlsplit(f"//{place}").hostname or "" for place in places]
        safe = scheme == "sc" and "use_ssl=true" in url.lower().partition(";")[2].split(";")
        advice = {
            "http": "write https://",
            "redis": "write rediss://",
            "redis+sentinel": "write rediss+sentinel://",
            "kafka": "write kafkas://",
            "sc": "add `;use_ssl=true`",
        }[scheme]
        found = f"{scheme}:// without TLS"
    else:
        return
    known = {host.strip().lower() for host in trusted.split(",")} - {""}
    far = [host for host in hosts if not is_loopback(host) and host.lower() not in known]
    if far and not safe:
        raise UsageError(
            f"{variable} names {far[0]}, which is another machine, with {found}: expected TLS, for passwords and rows would "
            f"travel in plain. Please {advice}; a host on a network of its own may stand in TIDEGATE_TRUSTED_HOSTS"
        )


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine: a loopback address, `localhost`, or a folder of sockets."""
    bare = host.strip("[]").lower()
    if bare in ("", "localhost") or bare.startswith(("/", "@")):
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def _hosts(url: str) -> Iterator[str]:
    """Yield every host that libpq would try: those of the address, those of its options, or the environment's."""
    rest = url.partition("://")[2]
    place, _, options = rest.partition("?")
    authority = place.partition("/")[0].rpartition("@")[2]
    asked = parse_qs(options)
    named = [unquote(part) for part in authority.split(",")]
    hosts = [part.partition("]")[0] if part.startswith("[") else part.rpartition(":")[0] or part for part in named]
    hosts = [host for host in hosts if host and not host.startswith(":")]
    for option in ("host", "hostaddr"):
        hosts += [host for value in asked.get(option, []) for host in value.split(",")]
    if not hosts:
        hosts = [os.environ.get("PGHOSTADDR") or os.environ.get("PGHOST", "")]
    yield from hosts


def _mode(url: str) -> str:
    asked = parse_qs(url.partition("?")[2]).get("sslmode", [])
    return asked[-1] if asked else os.environ.get("PGSSLMODE", "")
