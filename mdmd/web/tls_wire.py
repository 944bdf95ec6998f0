"""
TLS between a TCP connection and one of our channels.

What Twisted's own TLS protocol does for every protocol there may be costs a
tenth of a handshake; this one does what a channel needs: it is never asked to
write before it was given data, and it has one producer, which the TCP transport
asks directly.
"""

from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IAddress, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

_RECORDS = 65536  # bytes asked of OpenSSL at a time


@implementer(ISSLTransport)
class TLSWire(Protocol):
    """
    One connection: to TCP a protocol, to the channel a transport.

    :param connection: a fresh one for the server's side, without a socket.
    :param inner: the channel.
    """

    transport: Any

    def __init__(self, connection: SSL.Connection, inner: Any) -> None:
        connection.set_accept_state()
        self._connection = connection
        self._inner = inner
        self._shaken = False
        self._closing = False  # we have said goodbye
        self._failure: Failure | None = None  # why TLS ended, if by an error

    # -- TCP calls ------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Begin; the client speaks first."""
        if hasattr(self.transport.getPeer(), "port"):  # a unix socket has nothing to delay
            self.transport.setTcpNoDelay(True)
        self._inner.makeConnection(self)

    def dataReceived(self, data: bytes) -> None:
        """Take what came, hand on what is in it."""
        if self._failure is not None:
            return
        connection = self._connection
        connection.bio_write(data)
        try:
            if not self._shaken:
                connection.do_handshake()
                self._shaken = True
            while True:
                self._inner.dataReceived(connection.recv(_RECORDS))
        except SSL.WantReadError:
            self._flush()
        except SSL.ZeroReturnError:
            # The other side has said goodbye: so do we, and that is all.
            self._say_goodbye()
            self.transport.unregisterProducer()
            self.transport.loseConnection()
        except SSL.Error:
            self._fail()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End; if it was TLS that failed, the channel is told so."""
        self._closing = True
        self._inner.connectionLost(self._failure or reason)
        # What TLS took is free at once: thousands may end in one moment, and in a circle each
        # would wait for the garbage collector. A failure leads back here by its traceback.
        self._inner = self._failure = None

    def _flush(self) -> None:
        """Write what OpenSSL has for the other side."""
        connection = self._connection
        while True:
            try:
                records = connection.bio_read(_RECORDS)
            except SSL.WantReadError:
                return
            self.transport.write(records)
            if len(records) < _RECORDS:
                return

    def _fail(self) -> None:
        """Note the exception that is being handled, and end."""
        self._failure = Failure()  # type: ignore[no-untyped-call]
        self._flush()  # the alert that says what was wrong
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _say_goodbye(self) -> None:
        self._closing = True
        try:
            self._connection.shutdown()
        except SSL.Error:
            # In the middle of a handshake there is nobody to say it to.
            return
        self._flush()

    # -- the channel calls -------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes; after the goodbye they are dropped."""
        if self._closing or self._failure is not None:
            return
        try:
            self._connection.sendall(data)
        except SSL.Error:
            self._fail()
            return
        self._flush()

    def loseConnection(self) -> None:
        """Say goodbye; the other side has its time to take what was sent, then it closes."""
        if self._closing or self._failure is not None:
            return
        self._say_goodbye()
        self.transport.loseWriteConnection()

    def abortConnection(self) -> None:
        """End it by force."""
        self.transport.abortConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let TCP say when the other side does not take what is sent."""
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Undo :meth:`registerProducer`."""
        self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        """Read nothing for a while."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read again."""
        self.transport.resumeProducing()

    def getHandle(self) -> SSL.Connection:
        """Give OpenSSL's connection, for the certificate that was shown."""
        return self._connection

    def getPeer(self) -> IAddress:
        """Give the other side's address."""
        peer: IAddress = self.transport.getPeer()
        return peer
