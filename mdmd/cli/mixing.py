"""Options may stand anywhere: also between the words of a verb that takes several."""

import argparse
from typing import Any

_SEVERAL = (argparse.ZERO_OR_MORE, argparse.ONE_OR_MORE, argparse.OPTIONAL)
_REST = (argparse.PARSER, argparse.REMAINDER)


class MixingParser(argparse.ArgumentParser):
    """
    Reads ``lost-mode on --message TEXT ID`` as people type it.

    argparse by itself gives ID's place nothing as soon as it has met ``on``, and then
    has a word too many.
    """

    _mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Read the options first, then what is left, if there may be options in between."""
        # After -- everything is a word; argparse loses it when it reads twice.
        if self._mixing or "--" in (args or ()) or not self._mixes():
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False

    def _mixes(self) -> bool:
        kinds = {action.nargs for action in self._get_positional_actions()}
        return bool(kinds & {*_SEVERAL}) and not kinds & {*_REST}
