"""
``mdmctl completion``: Tab in bash, zsh and fish completes verbs, ids, RequestTypes, keys.

Where a file's name goes, the shell is told so with :data:`FILE` and completes it itself;
everywhere else it has no business with files.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable
from itertools import pairwise

_SCRIPTS = {
    "bash": """\
# mdmctl completion bash > /etc/bash_completion.d/mdmctl
_mdmctl() {
    local each
    COMPREPLY=()
    while IFS= read -r each; do
        if [[ $each == '<file>' ]]; then
            compopt -o default
        else
            COMPREPLY+=("$each")
        fi
    done < <(mdmctl complete --bash "$COMP_WORDBREAKS" "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=/] ]] && compopt -o nospace
    return 0
}
complete -F _mdmctl mdmctl
""",
    "zsh": """\
#compdef mdmctl
# mdmctl completion zsh > /usr/share/zsh/site-functions/_mdmctl
_mdmctl() {
    local -a found bare
    found=("${(@f)$(mdmctl complete -- "${(@Q)words[2,$CURRENT]}" 2>/dev/null)}")
    if [[ ${found[1]} == '<file>' ]]; then
        compset -P '--*='
        _files
        return
    fi
    bare=(${(M)found:#*[=/]})
    found=(${found:#*[=/]})
    (( ${#bare} )) && compadd -S '' -a bare
    (( ${#found} )) && compadd -a found
    (( ${#found} + ${#bare} ))
}
if [ "$funcstack[1]" = "_mdmctl" ]; then _mdmctl "$@"; else compdef _mdmctl mdmctl; fi
""",
    "fish": """\
# mdmctl completion fish > ~/.config/fish/completions/mdmctl.fish
function __mdmctl_complete
    set -l words (commandline -opc)
    set -l begun (commandline -ct)
    set -l plain (string unescape -- $begun); or set plain $begun
    set -l found (mdmctl complete -- $words[2..-1] "$plain" 2>/dev/null)
    if not contains -- '<file>' $found
        set -q found[1]; and printf '%s\\n' $found
        return
    end
    set -l head (string match -r '^--[^=]*=' -- "$plain")
    set -l path (string sub -s (math (string length -- "$head") + 1) -- "$plain")
    for each in (__fish_complete_path "$path")
        printf '%s\\n' "$head$each"
    end
end
complete -c mdmctl -f -a '(__mdmctl_complete)'
""",
}

FILE = "<file>"  # what stands for any file's name; the scripts above know it
_MOST = 200
_FILES = frozenset({"FILE", "PATH", "DIR", "PEM"})  # words of a metavar


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs."""
    completion = subparsers.add_parser(
        "completion",
        help="print what makes Tab work in a shell",
        description=(
            "bash: source <(mdmctl completion bash); zsh: source <(mdmctl completion zsh); "
            "fish: mdmctl completion fish | source"
        ),
    )
    completion.add_argument("shell", choices=sorted(_SCRIPTS))
    completion.set_defaults(run=_completion)
    complete = subparsers.add_parser("complete", help="what a shell asks; see completion")
    complete.add_argument(
        "--bash", nargs=2, metavar=("BREAKS", "LINE"), help="what bash has, as it has it"
    )
    complete.add_argument(
        "words", nargs=argparse.REMAINDER, help="after mdmctl, the last one begun"
    )
    complete.set_defaults(run=_complete)


def _completion(args: argparse.Namespace) -> int:
    sys.stdout.write(_SCRIPTS[args.shell])
    return 0


def _complete(args: argparse.Namespace) -> int:
    from mdmd.cli.main import make_parser

    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    spelled: Callable[[str], str] = str
    if args.bash:
        from mdmd.cli.bash_line import read

        line = read(args.bash[1], args.bash[0])
        words, spelled = line.words[1:], line.spelled
    daemon = _Daemon(args, words)
    for each in candidates(make_parser(), words or [""], daemon.ids, daemon.request_types):
        sys.stdout.write(f"{each if each == FILE else spelled(each)}\n")
    return 0


Ids = Callable[[str], Iterable[str]]
Types = Callable[[], Iterable[str]]


def candidates(
    parser: argparse.ArgumentParser, words: list[str], ids: Ids, types: Types
) -> list[str]:
    """
    Say what the last of some words may become.

    :param words: what stands after ``mdmctl``, the last one begun, maybe empty.
    :param ids: gives the enrollment ids and serial numbers that begin like a text.
    :param types: gives all RequestTypes.
    :return: them, or :data:`FILE` alone.
    """
    *before, begun = words
    place = _Place(parser)
    for word in before:
        place.take(word)
    option, equals, value = begun.partition("=")
    if equals and option.startswith("--") and place.option is None:
        place.take(option)
        if place.option is None:
            return []
        found = _at(place, value, ids, types)
        return [each if each == FILE else f"{option}={each}" for each in found]
    return _at(place, begun, ids, types)


def _at(place: "_Place", begun: str, ids: Ids, types: Types) -> list[str]:
    """Say what a word may become, by its place."""
    if begun.startswith("-") and place.option is None:
        return _fitting(place.parser._option_string_actions, begun)
    action = place.option or place.positional()
    if action is None:
        return _fitting(place.parser._option_string_actions, begun) if not begun else []
    if action.choices:
        return _fitting(action.choices, begun)
    if _FILES.intersection(re.findall("[A-Z]+", str(action.metavar))):
        return [FILE]
    return _of_kind(str(action.metavar), begun, place.values, ids, types)


def _fitting(words: Iterable[str], begun: str) -> list[str]:
    return sorted(word for word in words if word.startswith(begun))


class _Place:
    """Where in a command line one is: which parser, which of its arguments is next."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.option: argparse.Action | None = None  # that waits for its value
        self.values: list[str] = []  # of positional arguments
        self._enter(parser)

    def _enter(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser
        self._positionals = [each for each in parser._actions if not each.option_strings]

    def take(self, word: str) -> None:
        """Take a word that is whole."""
        if self.option is not None:
            self.option = None
            return
        if word.startswith("-") and len(word) > 1:
            known = self.parser._option_string_actions.get(word)
            self.option = known if known is not None and known.nargs != 0 else None
            return
        action = self.positional()
        self.values.append(word)
        if isinstance(action, argparse._SubParsersAction) and word in action.choices:
            self.values.clear()
            self._enter(action.choices[word])
        elif self._positionals and self._positionals[0].nargs not in ("*", "+"):
            self._positionals.pop(0)

    def positional(self) -> argparse.Action | None:
        """Say which positional argument is next."""
        return self._positionals[0] if self._positionals else None


def _of_kind(kind: str, begun: str, values: list[str], ids: Ids, types: Types) -> list[str]:
    if kind == "RequestType":
        return _fitting(types(), begun)
    if kind == "ID":
        return _some_ids(begun, ids)
    if kind != "word":
        return []
    # `mdmctl send`: ids, then a RequestType, then its keys, some with what is in a file.
    if of_file := re.match("[^=]+=@(?!@)", begun):
        return [f"{of_file[0]}{each}" for each in _files(begun[of_file.end() :])]
    for each in values:
        if each in _installed_types():
            return _keys(each, begun)
    some = [] if values else _some_ids(begun, ids)
    return [*some, *_fitting(types(), begun)]


def _files(begun: str) -> list[str]:
    """Give the files whose names begin so; no shell finds one behind ``KEY=@``."""
    folder, slash, name = begun.rpartition("/")
    try:
        found = [
            f"{folder}{slash}{each.name}{'/' * each.is_dir()}"
            for each in os.scandir(folder + slash or ".")
            if each.name.startswith(name) and (name or not each.name.startswith("."))
        ]
    except OSError:
        return []
    return sorted(found)


def _some_ids(begun: str, ids: Ids) -> list[str]:
    # Commas part several: the last one is being typed.
    head, comma, last = begun.rpartition(",")
    return sorted(f"{head}{comma}{each}" for each in ids(last))


def _installed_types() -> tuple[str, ...]:
    from mdmd.mdm.catalogue.load import names

    return names()


def _keys(request_type: str, begun: str) -> list[str]:
    from mdmd.mdm.catalogue.load import entry

    found = entry(request_type)
    return [] if found is None else _fitting((f"{name}=" for name in found.keys), begun)


class _Daemon:
    """The daemon that the line being typed is about; without it there are no ids."""

    def __init__(self, args: argparse.Namespace, words: list[str]) -> None:
        self._args = _with_place(args, words)
        self._types: list[str] | None = None

    def ids(self, begun: str) -> list[str]:
        """Give ids and serial numbers that begin like this; ask before for nothing else."""
        return self._ask(begun)

    def request_types(self) -> Iterable[str]:
        """Give the RequestTypes that it knows; those installed here, if it can't be asked."""
        if self._types is None:
            self._ask(None)
        return self._types or _installed_types()

    def _ask(self, begun: str | None) -> list[str]:
        """Ask all there is to ask at once: a process has one reactor, which runs once."""
        from mdmd.cli.client import Remote, run

        found: list[str] = []
        types: list[str] = []
        self._types = types

        async def verb(remote: Remote) -> None:
            if begun is not None:
                found.extend(await remote.call("enrollments.complete", begun=begun, limit=_MOST))
            commands = await remote.call("commands.catalogue")
            types.extend(each["request_type"] for each in commands)

        # A password can't be asked for in the middle of a line.
        if not self._args.server or self._args.identity or os.environ.get("MDMD_PASSWORD"):
            run(self._args, verb)
        return found


def _with_place(args: argparse.Namespace, words: list[str]) -> argparse.Namespace:
    """Ask the daemon that the line being typed is about."""
    for option in ("state", "config", "server", "user", "identity", "ca"):
        for word, following in pairwise(words):
            if word == f"--{option}":
                setattr(args, option, following)
            elif word.startswith(f"--{option}="):
                setattr(args, option, word.partition("=")[2])
    return args
