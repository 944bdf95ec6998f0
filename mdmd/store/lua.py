"""
The scripts beside this module, put together.

A script's first line may be ``-- uses: A B``: then ``scripts/A.lua`` and
``scripts/B.lua`` go before it. The names of such parts begin with an underscore.
"""

from importlib.resources.abc import Traversable

_USES = "-- uses:"


def source(folder: Traversable, name: str) -> bytes:
    """Read ``NAME.lua`` of the folder with the parts that it uses before it."""
    text = _read(folder, name)
    first = text.partition("\n")[0]
    parts = first.removeprefix(_USES).split() if first.startswith(_USES) else []
    return "\n".join((*(_read(folder, part) for part in parts), text)).encode()


def _read(folder: Traversable, name: str) -> str:
    return (folder / f"{name}.lua").read_text("utf-8")
