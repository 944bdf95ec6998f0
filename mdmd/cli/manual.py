"""
``man/mdmctl.1``, written from the verbs themselves.

``python -m mdmd.cli.manual > man/mdmctl.1``
"""

import argparse
import sys
from collections.abc import Iterator

from mdmd.cli.main import make_parser

_HEAD = r""".TH MDMCTL 1 "" mdmd "mdmd's operators"
.SH NAME
mdmctl \- look into a running mdmd and act on it
.SH SYNOPSIS
.B mdmctl
[\fIoptions\fR] \fIverb\fR [\fIarguments\fR]
.SH DESCRIPTION
.B mdmctl
talks to the daemon over its unix socket; the kernel says who is asking. Every verb explains itself
with \fB\-\-help\fR, and every reading verb prints data with \fB\-\-json\fR.
"""

_TAIL = r""".SH EXIT STATUS
0 done; 1 refused or failed, the reason is on standard error; 2 a wrong command line; 3 no daemon
answers; 4 the role does not reach that far; 5 a device answered with an error, or not in time;
130 interrupted.
.SH ENVIRONMENT
.TP
.B MDMD_CONFIG
the configuration to find the socket by, if neither \fB\-\-state\fR nor \fB\-\-config\fR is given
.TP
.B NO_COLOR
print without colours
.SH SEE ALSO
.BR mdmd (8)
"""


def manual() -> str:
    """Write the whole page."""
    parser = make_parser()
    lines = [_HEAD, ".SH OPTIONS\n", *_options(parser), ".SH VERBS\n", *_verbs(parser), _TAIL]
    return "".join(lines)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if action.option_strings and action.help != argparse.SUPPRESS:
            yield _entry(", ".join(action.option_strings), _metavar(action), action.help or "")


def _metavar(action: argparse.Action) -> str:
    return action.metavar if isinstance(action.metavar, str) else ""


def _verbs(parser: argparse.ArgumentParser, before: str = "") -> Iterator[str]:
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        helps = {each.dest: each.help or "" for each in action._choices_actions}
        for name, sub in action.choices.items():
            if name in helps:
                words = f"{before}{name}"
                yield _entry(words, _arguments(sub), helps[name])
                yield from _verbs(sub, f"{words} ")


def _arguments(parser: argparse.ArgumentParser) -> str:
    found = [
        _metavar(action) or action.dest.upper()
        for action in parser._actions
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction)
    ]
    return " ".join(found)


def _entry(name: str, arguments: str, text: str) -> str:
    italic = f" \\fI{_escape(arguments)}\\fR" if arguments else ""
    # argparse writes a percent sign twice.
    return f".TP\n\\fB{_escape(name)}\\fR{italic}\n{_escape(text.replace('%%', '%'))}\n"


def _escape(text: str) -> str:
    text = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in (".", "'") else text


if __name__ == "__main__":
    sys.stdout.write(manual())
