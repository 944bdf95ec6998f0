"""
The configuration: an INI file as frozen values, or every mistake in it at once.

``kinds`` and ``endpoints`` say what values look like, ``options`` is the table
of all options, ``file`` reads one file. ``python -m mdmd.config`` prints the
file with every option in it.
"""

from mdmd.config.changes import changes
from mdmd.config.file import load, parse, sample
from mdmd.config.options import OPTIONS, STATE, Config, Option

__all__ = ["OPTIONS", "STATE", "Config", "Option", "changes", "load", "parse", "sample"]
