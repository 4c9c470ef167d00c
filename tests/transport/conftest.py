"""A PostgreSQL with TLS, its certificate made here, by an authority of this test run alone."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.postgres_servers import FAST_AND_LOSSY

from tidegate.stack import port
from tidegate.stack.postgres import PostgresServer


@dataclass
class Guarded:
    """The server, and the file by which clients know it."""

    server: PostgresServer
    authority: Path

    def write_rules(self, *rules: str) -> None:
        """Replace the server's rules of who may come in."""
        (self.server.directory / "pg_hba.conf").write_text("\n".join([*rules, ""]))
        with psycopg.connect(self.server.dsn() + "?sslmode=require", autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """Write a key and a certificate of its own authority for `host`, which no name resolves to."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    cert, secret = folder / "server.crt", folder / "server.key"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.touch(mode=0o600)
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert, secret


@pytest.fixture(scope="module")
def guarded(reachable_folder: Path) -> Iterator[Guarded]:
    folder = reachable_folder / "guarded"
    folder.mkdir(mode=0o711)
    cert, key = certificate(folder, "warehouse.test")
    server = PostgresServer(folder / "postgres", "test", folder / "log", port.choose(21500, folder, set()))
    cert.chmod(0o644)
    if server.user:
        shutil.chown(key, server.user)
    server.settings = {**FAST_AND_LOSSY, "ssl": "on", "ssl_cert_file": str(cert), "ssl_key_file": str(key)}
    server.start()
    yield Guarded(server, cert)
    server.stop()
