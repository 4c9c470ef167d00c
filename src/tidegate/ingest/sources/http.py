"""A file at an http(s) address, with `{partition}` filled in; how it gets here is the download's matter."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, quote, urlsplit

from tidegate.contracts import Contract, Source
from tidegate.contracts.model import PARTITION
from tidegate.errors import ContractError
from tidegate.ingest.delivery import Delivery, receive
from tidegate.ingest.sources.download import Download
from tidegate.settings import Settings, source_variable

#: A contract may say otherwise with the custom property `maxBytes`.
_MAX_BYTES = 20 << 30


def fetch(settings: Settings, contract: Contract, source: Source, partition: str, spool: Path) -> Delivery:
    """Deliver the file at the source's address, with `{partition}` filled in.

    TIDEGATE_SOURCE_<SERVER>_URL, where it is set, stands for the contract's location.

    Raises:
        ContractError: the address is not http(s).
        SourceError: the server has no such file, refuses it, or it is larger than allowed.
        UnavailableError: the server does not answer, or not well, after several attempts.
        BusyError: another process is downloading the same file.
    """
    private = settings.source_url(source.name)
    url = (private.get_secret_value() if private else source.location).replace(PARTITION, quote(partition, safe=""))
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        place = source_variable(source.name) if private else f"{contract.reference}: server {source.name!r}: location"
        raise ContractError(f"{place}: expected an address that begins with http:// or https:// and names a host")
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    limit = int(source.options.get("maxBytes", _MAX_BYTES))
    download = Download(settings.home / "downloads" / contract.dataset / key, url, _shown(parts), source.name, limit)
    with download.alone():
        told = download.run()
        spool.mkdir(parents=True, exist_ok=True)
        # A link of its own: the kept body may be replaced by a newer one while this one is read.
        ours = spool.with_name("downloaded")
        os.link(download.body, ours)
    name = PurePosixPath(parts.path).name or "delivery"
    return Delivery((receive(ours, name + ".gz" * (told.gzipped and not name.endswith(".gz")), spool),))


def _shown(parts: SplitResult) -> str:
    """Return the address as people may see it: no user, no password, and no query, which may hold a key."""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
