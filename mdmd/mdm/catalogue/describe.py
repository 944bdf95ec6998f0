"""Describe a command in plain text, for people at a terminal."""

import shlex
from collections.abc import Iterator, Mapping

from mdmd.mdm.catalogue.entry import Availability, Entry, Key, Platforms


def describe(entry: Entry, target: str = "ID") -> str:
    """Say all there is to know of one command, its last line being one to type."""
    lines = [entry.name, f"  {entry.does}", ""]
    lines += [f"  {note}" for note in _notes(entry)]
    lines += ["Platforms:", *(f"  {line}" for line in _platforms(entry.platforms))]
    if entry.keys:
        lines += ["", "Keys:", *_keys(entry.keys, entry.platforms, 1)]
    return "\n".join([*lines, "", "Example:", f"  {example(entry, target)}", ""])


def example(entry: Entry, target: str = "ID") -> str:
    """Make the line to type."""
    return shlex.join(["mdmctl", "send", target, entry.name, *entry.example])


def _notes(entry: Entry) -> Iterator[str]:
    if entry.priority == "security":
        yield "Goes before everything else in the queue."
    if entry.single:
        yield f"Only one pending {entry.single} for each device."
    if entry.dedupe:
        yield "A new one takes the place of one that still waits."
    if entry.destructive:
        yield "Destroys data."
    if entry.secrets:
        yield f"Kept sealed: {', '.join(entry.secrets)}."
    if entry.secret_answer:
        yield "The answer holds a secret."
    for group in entry.one_of:
        yield f"Needs one of {', '.join(group)}."


def _platforms(platforms: Platforms) -> Iterator[str]:
    width = max(map(len, platforms), default=0)
    for name, terms in platforms.items():
        yield f"{name:{width}}  {', '.join(_terms(name, terms)) or 'any version'}"


def _terms(platform: str, terms: Availability) -> Iterator[str]:
    if terms.since:
        yield f"{terms.since} and later"
    if terms.deprecated:
        yield f"deprecated since {terms.deprecated}"
    if terms.removed:
        yield f"gone since {terms.removed}"
    if terms.obsolete:
        yield "older devices only"
    if terms.supervised:
        yield "supervised"
    if terms.automated:
        yield "automated enrollment"
    if terms.right:
        yield terms.right
    if not terms.user_enrollment:
        yield "no User Enrollment"
    if platform == "macOS" and terms.channels != ("device",):
        yield f"{' and '.join(terms.channels)} channel"
    if platform == "iOS":
        yield from _shared(terms)


def _shared(terms: Availability) -> Iterator[str]:
    if not terms.shared_ipad:
        yield "no Shared iPad"
    elif terms.shared_ipad_only:
        yield "Shared iPad only"
    if "user" in terms.shared_ipad:
        yield f"Shared iPad: {' and '.join(terms.shared_ipad)} channel"


def _keys(keys: Mapping[str, Key], around: Platforms, depth: int) -> Iterator[str]:
    for name, key in keys.items():
        yield from _key("ANY" if name == "*" else name, key, around, depth)


def _key(name: str, key: Key, around: Platforms, depth: int) -> Iterator[str]:
    pad = "  " * depth
    kind = f"array of {key.of.type}" if key.of else key.type
    facts = ["required"] if key.required else []
    if key.default is not None:
        facts.append(f"default {_plain(key.default)}")
    facts += _limits(key)
    where = _bracketed(key.platforms, around)
    help_text = f": {key.help}" if key.help else ""
    yield f"{pad}{name} ({', '.join([kind, *facts])}){where}{help_text}"
    inner = key.of or key
    values = inner.values or {}
    if values:
        yield from _values(values, key.platforms, depth + 1)
    if inner.keys:
        # The key that tells the kind is in the name of the kind already.
        shown = {each: inner.keys[each] for each in inner.keys if not name.startswith(f"{each}=")}
        yield from _keys(shown, key.platforms, depth + 1)
    for kind_name, each in inner.kinds.items():
        yield from _key(f"{inner.told_by}={kind_name}", each, key.platforms, depth + 1)


def _limits(key: Key) -> Iterator[str]:
    if key.min is not None or key.max is not None:
        yield f"{'' if key.min is None else key.min}..{'' if key.max is None else key.max}"
    if key.max_length:
        yield f"at most {key.max_length} long"
    if key.pattern:
        yield f"form {key.pattern}"


def _values(values: Mapping[object, Platforms], around: Platforms, depth: int) -> Iterator[str]:
    pad = "  " * depth
    if all(platforms == around for platforms in values.values()):
        yield f"{pad}one of: {', '.join(map(_plain, values))}"
        return
    for value, platforms in values.items():
        yield f"{pad}{_plain(value)}{_bracketed(platforms, around)}"


def _bracketed(platforms: Platforms, around: Platforms) -> str:
    """Say where a key is, if it is on terms that its surroundings don't have."""
    where = "" if platforms == around else _where(platforms, around)
    return f" [{where}]" if where else ""


def _where(platforms: Platforms, around: Platforms) -> str:
    """Say in short where a key is, and on what terms that its surroundings don't have."""
    new = {
        name: [each for each in _terms(name, terms) if each not in _around(name, around)]
        for name, terms in platforms.items()
    }
    if not new:
        return "nowhere"
    common = [
        each for each in next(iter(new.values())) if all(each in terms for terms in new.values())
    ]
    everywhere = platforms.keys() == around.keys()
    parts = []
    for name, terms in new.items():
        own = [each.replace(" and later", "+") for each in terms if each not in common]
        if own or not everywhere:
            parts.append(" ".join([name, *own]))
    return ", ".join(parts + common)


def _around(name: str, around: Platforms) -> list[str]:
    return list(_terms(name, around[name])) if name in around else []


def _plain(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
