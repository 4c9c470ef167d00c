"""`tidegate pool | replication | failover`: who is led where, how the copy follows, and making it the primary."""

from __future__ import annotations

import typer

_JSON = typer.Option(False, "--json", help="As JSON, for scripts.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    pool = typer.Typer(help="The pool before the warehouse: how it fares, and holding its clients back.")
    app.add_typer(pool, name="pool", no_args_is_help=True)
    for command in (status, drain, resume, restart):
        pool.command()(command)
    app.command()(replication)
    app.command()(failover)


def status(json: bool = _JSON) -> None:
    """Show who is served, who waits, and how much of the pool is taken."""
    from tidegate.commands._display import print_facts, print_json, print_table
    from tidegate.settings import get_settings
    from tidegate.stack import pool
    from tidegate.stack.port import LOOPBACK

    found = pool.reach(get_settings())
    load = found.load()
    if json:
        print_json({"address": f"{LOOPBACK}:{found.port}", "load": load})
        return
    columns = ("database", "user", "cl_active", "cl_waiting", "sv_active", "sv_idle", "sv_used", "maxwait")
    print_table(columns, [[row[column] for column in columns] for row in load.pools])
    print_facts(
        {
            "address": f"{LOOPBACK}:{found.port}",
            "clients": f"{load.clients} served, {load.waiting} wait, the longest for {load.longest_wait:.1f} s",
            "connections": f"{load.busy} busy, {load.idle} idle, at most {load.size}",
            "utilisation": f"{load.utilisation:.0%}",
            "state": "drained: `tidegate pool resume` serves again" if load.paused else "serving",
        }
    )


def drain(
    patience: float = typer.Option(30, "--patience", min=0, help="Seconds to wait for open transactions."),
) -> None:
    """Let open transactions end and hold back new ones, without an error; PostgreSQL may be restarted then."""
    from tidegate.settings import get_settings
    from tidegate.stack import pool

    pool.reach(get_settings()).pause(patience)
    typer.echo("drained: clients wait, for two minutes at most. `tidegate pool resume` serves them again")


def resume() -> None:
    """Serve the pool's clients again, by new connections."""
    from tidegate.settings import get_settings
    from tidegate.stack import pool

    found = pool.reach(get_settings())
    found.reconnect()
    found.resume()
    typer.echo("serving")


def restart() -> None:
    """Restart PostgreSQL while the pool's clients wait; who is connected directly is cut off."""
    from tidegate.settings import get_settings
    from tidegate.stack import pool
    from tidegate.stack.home import Home
    from tidegate.stack.supervisor import Supervisor

    settings = get_settings()
    home = Home(settings.home)
    with home.lock(typer.echo):
        seconds = pool.restart_behind(settings, Supervisor(home, typer.echo))
    typer.echo(f"restarted; the pool's clients waited for {seconds:.2f} s")


def replication(json: bool = _JSON) -> None:
    """Show how far the replica is behind, and what the slots keep back for it."""
    from tidegate.commands._display import print_facts, print_json, print_table
    from tidegate.settings import get_settings
    from tidegate.stack import replica, warehouse
    from tidegate.stack import replication as look

    settings = get_settings()
    copy = replica.mine(settings) if replica.wanted(settings) else None
    found = look.look(warehouse.reach(settings), copy)
    if json:
        print_json(found)
        return
    print_table(
        ("standby", "state", "sync", "replayed", "lag bytes"),
        [(s.name, s.state, s.sync_state, s.replay_lsn, s.lag_bytes) for s in found.standbys],
    )
    print_table(
        ("slot", "active", "WAL", "retained bytes"),
        [(s.name, s.active, s.wal_status, s.retained_bytes) for s in found.slots],
    )
    copied = found.replica
    print_facts(
        {
            "primary": f"{found.primary}, timeline {found.timeline}, at {found.lsn}",
            "commits": f"wait for {found.synchronous}" if found.synchronous else "do not wait for a replica",
            "replica": f"{copied.lag_seconds:.1f} s and {copied.lag_bytes} bytes behind"
            + (", its replay is paused" if copied.paused else "")
            if copied
            else "none runs"
            if copy
            else "none is wanted: `tidegate up --with replica` makes one",
        }
    )


def failover(
    yes_i_mean_it: bool = typer.Option(False, "--yes-i-mean-it", help="Said to do it."),
    json: bool = _JSON,
) -> None:
    """Make the replica the primary; the old primary, dead or alive, follows it from then on."""
    from tidegate.commands._display import print_json
    from tidegate.errors import UsageError
    from tidegate.settings import get_settings
    from tidegate.stack import lifecycle

    if not yes_i_mean_it:
        raise UsageError(
            "this ends the primary and promotes the replica; who is connected directly is cut off, and without "
            "TIDEGATE_REPLICA_SYNCHRONOUS the last commits of a primary that died may be lost. Nothing was done: say "
            "--yes-i-mean-it"
        )
    done = lifecycle.fail_over(get_settings(), lambda said: typer.echo(said, err=True))
    if json:
        print_json(done)
        return
    typer.echo(f"the replica is the primary since {done.lsn} (timeline {done.timeline}), after {done.seconds:.2f} s")
    if done.lost_bytes is None:
        typer.echo("what the old primary had beyond that is not known: its WAL cannot be read")
    else:
        typer.echo(f"lost: {done.lost_transactions} commits ({done.lost_bytes} bytes of WAL) that it had not received")
    typer.echo(f"the old primary: {done.rejoined} and follows, after {done.rejoin_seconds:.1f} s more")
