"""A store's client for programs without a reactor: one question at a time, or many at once."""

import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hiredis

from mdmd.doctor.trust import spelled, trusting
from mdmd.errors import StoreUnavailable
from mdmd.store.address import Address

Value = Any  # what Redis answers: bytes, int, None, or a list of them


class Client:
    """
    A connection to the store.

    :param timeout: seconds for each read.
    :raises StoreUnavailable: nobody answers there, or refuses us.
    """

    def __init__(self, address: Address, ca: Path | None = None, timeout: float = 10.0) -> None:
        self._reader = hiredis.Reader()
        self._timeout = timeout
        try:
            self._socket = self._connect(address, ca)
        except (OSError, ssl.SSLError) as error:
            raise StoreUnavailable(f"{address}: {spelled(error)}") from None
        if address.password is not None:
            self.ask("AUTH", *filter(None, [address.user]), address.password)
        if address.db:
            self.ask("SELECT", address.db)

    def _connect(self, address: Address, ca: Path | None) -> socket.socket:
        if address.kind == "unix":
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            made.settimeout(self._timeout)
            made.connect(address.path)
            return made
        if address.kind == "sentinel":
            return self._connect_master(address)
        ((host, port),) = address.hosts
        plain = socket.create_connection((host, port), self._timeout)
        if address.kind == "tls":
            context = trusting(ca)
            return context.wrap_socket(plain, server_hostname=host)
        return plain

    def _connect_master(self, address: Address) -> socket.socket:
        for place in address.hosts:
            try:
                sentinel = Client(Address("tcp", (place,)), timeout=self._timeout)
                found = sentinel.ask("SENTINEL", "get-master-addr-by-name", address.master)
            except StoreUnavailable:
                continue
            sentinel.close()
            if found:
                host, port = found
                return socket.create_connection((host.decode(), int(port)), self._timeout)
        raise OSError(None, f"no sentinel knows {address.master}")

    def ask(self, *words: object) -> Value:
        """
        Ask one thing.

        :raises StoreUnavailable: the connection broke, or the store refused.
        """
        return self.ask_all([words])[0]

    def ask_all(self, questions: Iterable[Iterable[object]]) -> list[Value]:
        """
        Ask many things in one go; the answers in their order.

        :raises StoreUnavailable: the connection broke, or the store refused one.
        """
        packed = [hiredis.pack_command(_spell(words)) for words in questions]
        try:
            self._socket.sendall(b"".join(packed))
            return [self._read() for _ in packed]
        except OSError as error:
            raise StoreUnavailable(f"the store does not answer: {spelled(error)}") from None

    def _read(self) -> Value:
        while (answer := self._reader.gets()) is False:
            data = self._socket.recv(1 << 16)
            if not data:
                raise StoreUnavailable("the store closed the connection")
            self._reader.feed(data)
        if isinstance(answer, hiredis.ReplyError):
            raise StoreUnavailable(str(answer))
        return answer

    def release(self) -> socket.socket:
        """Give the connection away, for what is no question and answer."""
        return self._socket

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def _spell(words: Iterable[object]) -> Any:
    return tuple(each if isinstance(each, bytes) else str(each) for each in words)
