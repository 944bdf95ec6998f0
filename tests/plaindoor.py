"""A door without TLS in front of a TLS server, for clients that can't be told whom to trust."""

import contextlib
import select
import socket
import ssl
import threading
from pathlib import Path


class PlainDoor:
    """Pass bytes between plain connections and a TLS server on loopback."""

    def __init__(self, port: int, ca: Path) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=str(ca))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(plain,), daemon=True).start()

    def _carry(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), plain:
            raw = socket.create_connection(("127.0.0.1", self._port), timeout=20)
            with self._context.wrap_socket(raw, server_hostname="localhost") as secure:
                while self._once(plain, secure):
                    pass

    def _once(self, plain: socket.socket, secure: ssl.SSLSocket) -> bool:
        ready = [secure] if secure.pending() else select.select([plain, secure], [], [], 20)[0]
        if secure in ready:
            secure.settimeout(0)
            try:
                plain.sendall(data := secure.recv(65536))
            except ssl.SSLWantReadError:
                data = b"-"  # a session ticket, say
            finally:
                secure.settimeout(20)
            if not data:
                return False
        if plain in ready:
            data = plain.recv(65536)
            if not data:
                return False
            secure.sendall(data)
        return bool(ready)
