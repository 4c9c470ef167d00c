"""Addresses of other machines are spoken to with TLS, or not at all; told when they are read, without their password."""

from __future__ import annotations

import pytest

from tidegate.errors import UsageError
from tidegate.settings import load_settings
from tidegate.transport import require_tls

NEAR = [
    "postgresql://u:p@127.0.0.1:5432/w", "postgresql://u:p@localhost/w", "postgresql://u:p@[::1]:5432/w", "postgresql://u:p@127.8.9.1/w",
    "postgresql:///w", "postgresql:///w?host=/var/run/postgresql", "postgres://u:p@%2Fvar%2Frun/w", "http://127.0.0.1:8080",
    "sc://127.0.0.1:15002", "kafka://u:p@localhost:9092,127.0.0.1", "redis://localhost:6379", "sc://[::1]:15002",
]  # fmt: skip
SAFE = [
    "postgresql://u:p@db.example/w?sslmode=verify-full", "postgresql://u:p@db.example/w?sslmode=verify-ca&sslrootcert=/ca",
    "postgresql://u:p@10.0.0.7/w?sslmode=require", "https://air.example", "sc://spark.example:15002/;use_ssl=true", "rediss://r.example", "kafkas://u:p@k.example:9093",
]  # fmt: skip
PLAIN = [
    "postgresql://u:hush@db.example/w", "postgresql://u:hush@db.example/w?sslmode=prefer", "postgresql://u:hush@10.0.0.7:5432/w?sslmode=disable",
    "postgresql://u:hush@127.0.0.1/w?host=db.example", "postgresql://u:hush@127.0.0.1/w?hostaddr=10.0.0.7", "postgresql://u:hush@localhost,db.example:5433/w",
    "postgresql://u:hush@127.0.0.1.example/w", "postgres://u:hush@[2001:db8::1]:5432/w", "POSTGRESQL://u:hush@db.example/w", "postgresql://u:hush@localhost.example/w",
    "http://u:hush@air.example:8080", "sc://spark.example:15002/;token=hush", "redis://:hush@r.example:6379/0", "redis+sentinel://me:hush@127.0.0.1:1,r.example:2/main", "kafka://me:hush@127.0.0.1:1,k.example:2?mechanism=PLAIN",
    "postgresql://u:hush@127.0.0.1/w?sslmode=verify-full&host=db.example&sslmode=allow",
]  # fmt: skip


@pytest.mark.parametrize("url", [*NEAR, *SAFE])
def test_this_machine_and_addresses_with_tls_are_spoken_to(url: str) -> None:
    require_tls("TIDEGATE_WAREHOUSE_URL", url)


@pytest.mark.parametrize("url", PLAIN)
def test_another_machine_in_plain_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(
        UsageError, match=r"TIDEGATE_X_URL names \S+, which is another machine, .*: expected TLS"
    ) as refused:
        require_tls("TIDEGATE_X_URL", url)
    assert "hush" not in str(refused.value)


def test_an_address_that_is_cut_in_its_password_is_refused_without_a_piece_of_it() -> None:
    with pytest.raises(UsageError, match="must be percent-encoded") as refused:
        require_tls("TIDEGATE_WAREHOUSE_URL", "postgresql://u:hu,sh/5@127.0.0.1/w")
    assert "sh" not in str(refused.value)


def test_what_libpq_takes_from_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.example")
    with pytest.raises(UsageError, match=r"names db.example"):
        require_tls("TIDEGATE_WAREHOUSE_URL", "postgresql:///w")
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    require_tls("TIDEGATE_WAREHOUSE_URL", "postgresql:///w")


@pytest.mark.parametrize(
    ("variable", "plain", "advice"),
    [
        ("TIDEGATE_WAREHOUSE_URL", "postgresql://u:p@db.example/w", "`?sslmode=verify-full`"),
        ("TIDEGATE_AIRFLOW_DATABASE_URL", "postgresql://u:p@db.example/a", "`?sslmode=verify-full`"),
        ("TIDEGATE_AIRFLOW_URL", "http://air.example", "write https://"),
        ("TIDEGATE_SPARK_REMOTE", "sc://spark.example:15002", "`;use_ssl=true`"),
        ("TIDEGATE_REDIS_URL", "redis://r.example", "write rediss://"),
        ("TIDEGATE_KAFKA_URL", "kafka://k.example:9092", "write kafkas://"),
        ("TIDEGATE_SOURCE_TILL_1_URL", "postgresql://u:p@till.example/t", "`?sslmode=verify-full`"),
    ],
)
def test_every_address_is_held_to_it_when_it_is_read(
    monkeypatch: pytest.MonkeyPatch, variable: str, plain: str, advice: str
) -> None:
    monkeypatch.setenv(variable, plain)
    with pytest.raises(UsageError, match=f"{variable} names .*{advice.replace('?', '[?]')}"):
        load_settings()
    monkeypatch.setenv(
        "TIDEGATE_TRUSTED_HOSTS", "one, db.example,air.example,spark.example,r.example,k.example,till.example"
    )
    load_settings()
