"""A reply of enqueue and push as NanoMDM spells it, for thousands of ids in pieces."""

import json
from collections.abc import Iterable

from mdmd.flow.enqueue import Reply, TargetReply
from mdmd.web.api_call import JSON, told
from mdmd.web.breath import breathe
from mdmd.web.respond import Answer, Clock

_AT_ONCE = 1000  # ids; some 3 ms

# What json.dumps does to a text; making an encoder each time takes longer than the text.
_quote = json.JSONEncoder(ensure_ascii=False).encode


async def spell_reply(reply: Reply, clock: Clock) -> Answer:
    """Spell a reply: 200 no error, 207 some failed, 500 all or the whole call."""
    failed = 0
    lines: list[str] = []
    targets = list(reply.status.items())
    for at in range(0, len(targets), _AT_ONCE):
        if at:
            await breathe(clock)
        some = targets[at : at + _AT_ONCE]
        failed += sum(1 for _, each in some if each.push_error or each.command_error)
        lines.append(",\n".join(_targets(some)))
    rest: dict[str, object] = {
        "no_push": reply.no_push,
        "push_error": reply.push_error,
        "command_error": reply.command_error,
        "command_uuid": reply.command_uuid,
        "request_type": reply.request_type,
    }
    rest = {name: value for name, value in rest.items() if value}
    parts = [f"\t{_quote(name)}: {_quote(value)}" for name, value in rest.items()]
    if status := ",\n".join(filter(None, lines)):
        parts.insert(0, f'\t"status": {{\n{status}\n\t}}')
    text = "{\n" + ",\n".join(parts) + "\n}\n" if parts else "{}\n"
    body = text.encode("utf-8", "replace")
    return Answer(body, JSON, _status(reply, failed), told=told(rest))


def _targets(some: Iterable[tuple[str, TargetReply]]) -> Iterable[str]:
    """Spell what is to be said of some targets; of one that took a command, nothing."""
    for id_, target in some:
        if not target.told:
            continue
        words = (
            f'\t\t\t"{name}": {_quote(text)}'
            for name, text in (
                ("push_result", target.push_result),
                ("push_error", target.push_error),
                ("command_error", target.command_error),
            )
            if text
        )
        yield f"\t\t{_quote(id_)}: {{\n" + ",\n".join(words) + "\n\t\t}"


def _status(reply: Reply, failed: int) -> int:
    if reply.push_error or reply.command_error or (failed and failed == len(reply.status)):
        return 500
    return 207 if failed else 200
