"""What another reading of the configuration has changed."""

from collections.abc import Iterator

import attrs

from mdmd.config.options import SECTIONS, Config


def changes(old: Config, new: Config) -> Iterator[str]:
    """Name the options whose values differ, such as ``[site] listen``."""
    for section, values in SECTIONS.items():
        for each in attrs.fields(values):
            if getattr(getattr(old, section), each.name) != getattr(
                getattr(new, section), each.name
            ):
                yield f"[{section}] {each.name}"
    for name in sorted(old.webhooks.keys() | new.webhooks.keys()):
        if old.webhooks.get(name) != new.webhooks.get(name):
            yield f"[webhook {name}]"
