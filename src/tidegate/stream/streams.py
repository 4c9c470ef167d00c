"""The streams of a checkout by name, and several of them taken in at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from tidegate.contracts import Contract, load_all
from tidegate.errors import UsageError
from tidegate.settings import Settings
from tidegate.stream.worker import Worker


def named(settings: Settings, names: Sequence[str]) -> list[Contract]:
    """Return the contracts of these streams, named by dataset or by topic, each once; of all streams without names.

    Raises:
        UsageError: a name is neither.
        ContractError: a contract cannot be read.
    """
    known = [contract for contract in load_all(settings) if contract.topic is not None]
    if not names:
        return known
    found: list[Contract] = []
    for name in names:
        contract = next((c for c in known if c.topic is not None and name in (c.dataset, c.topic.name)), None)
        if contract is None:
            there = ", ".join(c.dataset for c in known) or "none"
            raise UsageError(
                f"no stream {name!r}: schemas/ has {there}; a contract whose server is of type kafka is one"
            )
        if contract not in found:
            found.append(contract)
    return found


def run(workers: Sequence[Worker], *, drain: bool) -> None:
    """Let workers work, each in a thread of its own; the first that fails ends the others, and its error is raised."""
    with ThreadPoolExecutor(max_workers=len(workers)) as pool:
        at_work = [pool.submit(worker.drain if drain else worker.run) for worker in workers]
        wait(at_work, return_when=FIRST_EXCEPTION)
        if any(future.done() and future.exception() for future in at_work):
            for worker in workers:
                worker.stop.set()
    for future in at_work:
        future.result()
