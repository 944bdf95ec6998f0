"""Commands: what we ask of a device. Keys in, a plist out, and back."""

import attrs


@attrs.frozen
class Command:
    """A command as the device will get it."""

    uuid: str
    request_type: str
    raw: bytes = attrs.field(repr=False)  # the plist, XML or binary as it came
