"""What the cache engineer writes: what tidegate keeps in Redis, for how long, and what goes on without it; as code and server say."""

from __future__ import annotations

from tidegate.delivery.cited import Asked, beside, figures, file, shown, value
from tidegate.delivery.markdown import code, head, table
from tidegate.delivery.work import Work
from tidegate.stack import redis_sentinel, redis_server
from tidegate.stores import cache, lease
from tidegate.stores.redis import Address

_LEASE, _CACHE, _STORE = "src/tidegate/stores/lease.py", "src/tidegate/stores/cache.py", "src/tidegate/stores/redis.py"
_SERVER, _SENTINEL = "src/tidegate/stack/redis_server.py", "src/tidegate/stack/redis_sentinel.py"


def caching_strategy(work: Work) -> str:
    """Return what is kept in Redis, for how long, what is evicted first, and what happens without it."""
    policy = redis_server.SETTINGS["maxmemory-policy"]
    return "\n".join([
        *head(work, "What stands in Redis, and what does not depend on it"),
        *_here(work),
        "",
        *table(
            ["what", "lives for", "when memory is short", "when Redis is away", "written in"],
            [
                ["leases of whoever works on a batch", f"{lease.SECONDS:g} s after the last sign of life, one every {lease.SECONDS / 3:g} s",
                 "stay: the hash has no time to live", "the session lock of the warehouse, which decides anyway, is asked first", file(work, _LEASE)],
                ["the counter of fencing tokens", "for ever", "stays", "the warehouse numbers claims itself (`ops.fence`)", file(work, "src/tidegate/gates/claim.py")],
                ["cached values", "`seconds` of their cache", f"go first ({policy})", "every value is computed", file(work, _CACHE)],
            ],
        ),
        f"Of many who ask for the same missing value one computes, the others wait up to {cache.Cache.patience:g} s. Whose rights a value was "
        "read with is a part of its name, for a copy outside PostgreSQL has no row-level security. "
        f"Modules that cache something: {', '.join(_cachers(work)) or 'none so far'}.",
        "",
        "## How often Redis knew the answer",
        "",
        *figures(work, [
            Asked("share of keys that were there", "redis", "hit_rate"), Asked("hits", "redis", "hits"), Asked("misses", "redis", "misses"),
            Asked("keys evicted for lack of memory", "redis", "evicted_keys"), Asked("keys that ran out", "redis", "expired_keys"),
        ]),
        "## How fast one is, on this machine",
        "",
        *_benchmark(work),
    ])  # fmt: skip


def data_structures(work: Work) -> str:
    """Return every kind of key, its type and what the server says lies there."""
    largest = value(work, "redis", "largest") or []
    return "\n".join([
        *head(work, "Keys and their types"),
        f"Every key begins with `{redis_server.PREFIX}`; the platform's user may touch no other.",
        "",
        *table(
            ["key", "type", "holds", "time to live"],
            [
                [f"`{lease.LEASES}`", "hash", "one field a lease: holder, token, since, ends (JSON)", "none; a dead lease is cleared by whoever takes one an hour later"],
                [f"`{lease.TOKEN}`", "string", "the highest token so far, counted by the script that grants", "none"],
                [f"`{redis_server.PREFIX}cache:NAME:AUDIENCE:KEY`", "string", "one value as JSON", "set with it, in milliseconds"],
            ],
        ),
        "## What the server has now",
        "",
        *figures(work, [
            Asked("keys", "redis", "keys"), Asked("bytes of them all", "redis", "bytes"),
            Asked("keys that are not tidegate's", "redis", "foreign_keys"),
        ]),
        *(table(["heaviest key", "type", "bytes"], [[f"`{one['key']}`", one["type"], shown(one["bytes"])] for one in largest]) if largest else []),
        "## What each user may do",
        "",
        "Users as their ACL has them; passwords are generated and stand in no artifact.",
        "",
        *code("\n".join(f"{name}: {rules}" for name, rules in redis_server.USERS.items())),
        *[f"Leases change in {file(work, _LEASE)} by three scripts, each of which runs whole or not at all: take, renew, release."],
    ])  # fmt: skip


def cluster_config(work: Work) -> str:
    """Return how Redis outlives its server: sentinels, addresses, and what a dead master cost."""
    watcher = redis_sentinel.SentinelServer
    return "\n".join([
        *head(work, "A Redis that outlives its server"),
        f"One shard: leases need one order, and {redis_server.SETTINGS['databases']} database of the default memory "
        f"({work.settings.redis_memory}) holds them all. Not a cluster, then, but a master with replicas and sentinels, of which "
        f"{watcher.quorum} have to agree that it is dead.",
        "",
        *table(
            ["setting of a sentinel", "value", "written in"],
            [
                ["name of the master", f"`{redis_sentinel.SERVICE}`", file(work, _SENTINEL)],
                ["down after", f"{watcher.down_after_milliseconds} ms without an answer", file(work, _SENTINEL)],
                ["failover timeout", f"{10 * watcher.down_after_milliseconds} ms", file(work, _SENTINEL)],
                ["address that clients are given", "`redis+sentinel://host:port,host:port/NAME`", file(work, _STORE)],
            ],
        ),
        "## A master that was killed",
        "",
        *figures(work, [
            Asked("seconds until a write was acknowledged again", "redis_failover", "seconds", "s"),
            Asked("writes acknowledged before and after", "redis_failover", "acknowledged"),
            Asked("of these, lost", "redis_failover", "lost"),
            Asked("writes refused meanwhile", "redis_failover", "refused"),
        ]),
        "An acknowledged write may be lost there, replication being asynchronous: a lease that is lost so is put back by its holder, and a "
        f"token that went back is refused by PostgreSQL ({file(work, 'src/tidegate/gates/claim.py')}).",
    ])  # fmt: skip


def persistence_config(work: Work) -> str:
    """Return what a power cut takes back, and what is found again, by the server's settings and its own answers."""
    names = ("appendonly", "appendfsync", "aof-load-truncated", "save", "maxmemory-policy")
    return "\n".join([
        *head(work, "What Redis writes down, and what a power cut takes back"),
        f"`appendfsync {redis_server.SETTINGS['appendfsync']}`: a second of leases and cached values at most. A log of writes with a cut tail is "
        f"found at the next `tidegate up`, copied to the archive and cut behind its last whole entry ({file(work, 'src/tidegate/stack/redis.py')}).",
        "",
        *table(
            ["setting", "as it is written", "as the server says it"],
            [[f"`{name}`", redis_server.SETTINGS[name], _said(work, name)] for name in names],
        ),
        "## Memory",
        "",
        *figures(work, [
            Asked("bytes used", "redis", "used_memory"), Asked("bytes allowed", "redis", "maxmemory"),
            Asked("share of it", "redis", "used_share"), Asked("fragmentation", "redis", "mem_fragmentation_ratio"),
        ]),
        "## All settings of the embedded server",
        "",
        *code("\n".join(f"{name} {text}" for name, text in redis_server.SETTINGS.items())),
    ])  # fmt: skip


def _here(work: Work) -> list[str]:
    url = work.settings.redis_url
    if url is None:
        return [
            "This stack has none: what follows is what tidegate would keep there. Claims on batches are decided and numbered by the warehouse "
            f"meanwhile, and nothing is cached ({file(work, 'docs/decisions/0008-redis-stands-in-front-and-is-never-the-truth.md', 'decision 0008')})."
        ]  # fmt: skip
    return [f"The stack's server is `{Address.of(url.get_secret_value())}`."]


def _cachers(work: Work) -> list[str]:
    source = work.settings.project / "src" / "tidegate"
    files = [path for path in sorted(source.rglob("*.py")) if "delivery" not in path.parts]
    return [beside(work, path) for path in files if "tidegate.stores.cache import" in path.read_text(encoding="utf-8")]


def _said(work: Work, name: str) -> str:
    found = value(work, "redis", name)
    return shown(found) if found is not None else "it does not run"


def _benchmark(work: Work) -> list[str]:
    found = next(iter(work.taken_by("redis_benchmark")), None)
    if found is None:
        return figures(work, [Asked("operations a second", "redis_benchmark", "GET")])
    rows = [
        [name, shown(one["ops_per_second"]), shown(one["p95_ms"])]
        for name, one in found.figures.items()
        if isinstance(one, dict)
    ]
    return table(["operation", "a second", "P95, ms"], rows)
