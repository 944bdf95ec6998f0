"""Apps that the device site serves."""

from typing import Protocol


class IShelf(Protocol):
    """Apps on the device site, as operators see them: plain words of each."""

    def append(self, upload: str, piece: bytes) -> str:
        """
        Take a piece of an app's file; ``upload`` "" begins one. Give the upload's name.

        :raises NotHere: there is no such upload any more.
        :raises TooLarge: the app is too large.
        """

    def put(self, upload: str, title: str) -> dict[str, object]:
        """
        Put an app on the shelf whose last piece has come.

        :raises NotHere: there is no such upload any more.
        :raises BadMessage: it is no app.
        """

    def show(self) -> list[dict[str, object]]:
        """Say of each app what operators see, the newest first."""

    def take_off(self, token: str) -> dict[str, object]:
        """
        Take an app off the shelf.

        :raises NotHere: there is none of this token.
        """
