"""No bytes from outside make a reader fail in a way that it does not promise."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.fuzzing.targets import TARGETS, Target

EXAMPLES = 200

_EDIT = st.tuples(
    st.floats(0, 1),  # where, as a part of the whole
    st.sampled_from(["set", "cut", "insert", "repeat", "flip"]),
    st.binary(max_size=8),
)


def mutate(seed: bytes, edits: list[tuple[float, str, bytes]]) -> bytes:
    """Change a seed here and there."""
    data = bytearray(seed)
    for where, how, what in edits:
        at = int(where * len(data))
        match how:
            case "set":
                data[at : at + len(what)] = what
            case "cut":
                del data[at : at + len(what) + 1]
            case "insert":
                data[at:at] = what
            case "repeat":
                data[at:at] = data[at : at + 1 + len(what) * 4] * 3
            case "flip" if at < len(data):
                data[at] ^= 1 << (len(what) % 8)
    return bytes(data)


class FuzzTests(SynchronousTestCase):
    """One test for each target; the methods are made below."""


def _test(name: str, target: Target) -> Any:
    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.data())
    def test(self: FuzzTests, data: st.DataObject) -> None:
        seeds = target.seeds()
        if data.draw(st.integers(0, 7)) == 0:
            target.run(data.draw(st.binary(max_size=300)))
            return
        seed = data.draw(st.sampled_from(seeds))
        target.run(mutate(seed, data.draw(st.lists(_EDIT, min_size=1, max_size=6))))

    test.__doc__ = f"Whatever comes, {name} raises nothing but what it promises."
    return test


def _seed_test(name: str, target: Target) -> Any:
    def test(self: FuzzTests) -> None:
        for seed in target.seeds():
            target.read(seed)

    test.__doc__ = f"The seeds of {name} are read well: the fuzzing begins inside."
    return test


for _name, _target in TARGETS.items():
    setattr(FuzzTests, f"test_{_name.replace('-', '_')}", _test(_name, _target))
    setattr(FuzzTests, f"test_seeds_of_{_name.replace('-', '_')}", _seed_test(_name, _target))
