"""Apps that we serve to devices."""

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import Logger

from mdmd.errors import InternalError, NotHere
from mdmd.interfaces.apps import IShelf
from mdmd.ops.method import Caller, Subject, Wire, method
from mdmd.ops.operators import Role

log = Logger()


class Apps(Subject):
    """The shelf of the device site."""

    name = "apps"

    @method(Role.VIEWER)
    async def show(self, caller: Caller) -> Wire:
        """List the apps, the newest first, each with the URL of its manifest."""
        return self._shelf().show()

    @method(Role.OPERATOR)  # `finish` is what is audited: an app has thousands of pieces
    async def append(self, caller: Caller, upload: str, piece: bytes) -> Wire:
        """Take a piece of an app's file; ``upload`` "" begins one. Give the upload's name."""
        with _on_disk():
            return self._shelf().append(upload, piece)

    @method(Role.OPERATOR, audit=("upload", "title"))
    async def finish(self, caller: Caller, upload: str, title: str = "") -> Wire:
        """Put an app on the shelf whose last piece has come, and say where its manifest is."""
        with _on_disk():
            shelved = self._shelf().put(upload, title)
        caller.noted["identifier"] = str(shelved["identifier"])
        return shelved

    @method(Role.OPERATOR, audit=())
    async def remove(self, caller: Caller, token: str) -> Wire:
        """Take an app off the shelf; devices can't get it any more."""
        shelved = self._shelf().take_off(token)
        caller.noted["identifier"] = str(shelved["identifier"])
        return shelved

    def _shelf(self) -> IShelf:
        if self.desk.shelf is None:
            raise NotHere("this daemon serves no apps")
        return self.desk.shelf


@contextmanager
def _on_disk() -> Iterator[None]:
    """Say what the disk refuses, such as for want of room; that is no bug of ours."""
    try:
        yield
    except OSError as error:
        log.error("an app can't be written: {reason}", reason=str(error))
        raise InternalError(f"mdmd can't write it: {error.strerror}") from None
