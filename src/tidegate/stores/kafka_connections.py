"""Connections of kafka-python 3.0.12 with its holes mended: what each patch is for stands beside it.

Each was seen against a real broker that was killed, restarted or refused a password; `tests/stores/test_kafka.py` shows
them again. A newer release may need none: take one out, and look whether its test still passes.
"""

from __future__ import annotations

import logging
from typing import Any

from kafka.errors import (
    AuthorizationError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket, create_connection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

#: What a broker answers to those whom it will never let in.
REFUSALS = (SaslAuthenticationFailedError, AuthorizationError, UnsupportedSaslMechanismError, IllegalSaslStateError)
_SCHEME = "tidegate"
# It tells of each attempt to reach a broker, twice a second, as errors; what is one is raised. And of SCRAM it says that
# passwords travel in the clear, which they do not.
logging.getLogger("kafka").setLevel(logging.CRITICAL)


class _Socket(KafkaNetSocket):  # type: ignore[misc]
    """A socket that is closed where it could not be connected; kafka-python leaves it open (net/inet.py, `connect`)."""

    SCHEMES = (_SCHEME,)

    async def sock_connect(self, net: Any, sock: Any, sockaddr: Any, timeout_at: float | None = None) -> Any:
        try:
            return await super().sock_connect(net, sock, sockaddr, timeout_at=timeout_at)
        except BaseException:
            sock.close()
            raise


class _Receiving:
    """Hands on what came just before the end of the stream: the broker's answer why it closes it, a refused password say.

    kafka-python throws that away (net/transport.py, `_read_from_sock`); the end is still there to be read again.
    """

    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        data, error = super()._sock_recv()  # type: ignore[misc]
        return (data, None) if data else (data, error)


class _Plain(_Receiving, KafkaTCPTransport):  # type: ignore[misc]
    pass


class _Guarded(_Receiving, KafkaSSLTransport):  # type: ignore[misc]
    pass


class _Manager(KafkaConnectionManager):  # type: ignore[misc]
    """Knows why the last connection that was tried could not be had; `trouble` is None where it could."""

    def __init__(self, net: NetworkSelector, **configs: Any) -> None:
        self.trouble: Exception | None = None
        self._began = False
        super().__init__(net, **configs)

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        sock = await create_connection(
            self._net, node.host, node.port, self.config["socket_options"],
            proxy_url=self.config["proxy_url"], timeout_at=timeout_at,
        )  # fmt: skip
        # As it is there, but for the kinds of transport, and for closing one whose certificate is not taken.
        options = {name: value for name, value in self.config.items() if name.startswith("ssl_")}
        transport = None
        try:
            transport = (
                _Guarded(self._net, sock, host=node.host, **options)
                if self.ssl_enabled
                else _Plain(self._net, sock, host=node.host)
            )
            await transport.handshake()
        except BaseException as error:
            transport.abort(error) if transport else sock.close()
            if isinstance(error, Exception):
                raise KafkaConnectionError(f"Handshake failed: {error}") from error
            raise
        return transport

    async def _connect(self, node: Any, conn: Any, *args: Any, **options: Any) -> None:
        await super()._connect(node, conn, *args, **options)
        outcome = conn.init_future
        self.trouble = outcome.exception if outcome.failed() else None
        if isinstance(self.trouble, REFUSALS) and not self._began:
            # net/manager.py, `_connect`, means to keep this one, and expects it raised, which `initialize` does not do: a
            # wrong password would be tried again until the time is up, and be told as a broker that does not answer.
            self._auth_failures[node.node_id] = self.trouble

    def bootstrap(self, timeout_ms: int | None = None, refresh: bool = True) -> None:
        try:
            super().bootstrap(timeout_ms, refresh)
        except BaseException as error:
            if self._began:
                raise
            # A constructor that fails leaves its thread and sockets behind (consumer/group.py, admin/client.py).
            self.close()
            self._net.close()
            if isinstance(error, KafkaError) and isinstance(self.trouble, Exception):
                raise self.trouble from error
            raise
        self._began = True


class Client(KafkaNetClient):  # type: ignore[misc]
    """To be given to consumers, producers and admin clients as `kafka_client`."""

    def __init__(self, net: Any = None, manager: Any = None, **configs: Any) -> None:
        net = net or NetworkSelector(**configs)
        super().__init__(net, manager or _Manager(net, **{**configs, "proxy_url": f"{_SCHEME}://"}), **configs)


def trouble(client: Any) -> Exception | None:
    """Return why a consumer or an admin client has no connection to any broker; None while it has one, or has not tried."""
    manager = client._manager
    connected = any(connection.connected for connection in manager._conns.values())
    return None if connected or not isinstance(manager.trouble, Exception) else manager.trouble
