"""
``docs/configuration.md``, written from the options themselves.

``python -m mdmd.config markdown > docs/configuration.md``
"""

from typing import Any

from mdmd.config.options import OPTIONS, SECTIONS, Option, Webhook, webhook_options

_HEAD = """# Configuration

This page is made from the code: `python -m mdmd.config markdown`. The same as a file to begin with
is [etc/mdmd.conf](../etc/mdmd.conf): `python -m mdmd.config`.

Sections are in brackets, an option is `name = value`, longer values go on in further lines that are
indented. A line that begins with `#` or `;` is a comment. `STATE` stands for the state folder, from
which relative paths count too. Durations are a number with
`s`, `m`, `h` or `d`, sizes one with `K`, `M` or `G`.

Mistakes are found all at once, each in a line of its own:

```console
$ twistd mdmd --config /var/lib/mdmd/mdmd.conf --check
```

On SIGHUP (`systemctl reload mdmd`) the files with TLS certificates and the log level are read
again, and the log file is opened anew; the operators file is read whenever it changes. Everything
else takes a restart, another name for one of these files too: a reload logs which changed options
wait for one.
"""

_A_WEBHOOK = "webhook NAME"


def markdown() -> str:
    """Write the whole page."""
    parts = [_section(name, each, OPTIONS) for name, each in SECTIONS.items()]
    return _HEAD + "".join(parts) + _section(_A_WEBHOOK, Webhook, webhook_options(_A_WEBHOOK))


def _section(name: str, section: Any, options: tuple[Option, ...]) -> str:
    rows = "".join(_row(each) for each in options if each.section == name)
    about = " ".join((section.__doc__ or "").split())
    return f"\n## [{name}]\n\n{about}\n\n| option | default | what |\n| --- | --- | --- |\n{rows}"


def _row(option: Option) -> str:
    if option.default is None:
        default = "required"
    else:
        default = f"`{_cell(option.default)}`" if option.default else ""
    return f"| `{option.key}` | {default} | {_cell(option.explanation)} |\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
