"""Shell completion of models, specs, schedules and plugins. Nothing here imports torch."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    split_arg_string,
)

from freezekit.errors import PluginError
from freezekit.spec.option_types import write_value
from freezekit.spec.options import option_infos

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import click

    from freezekit.plugins.registry import RegisteredSchedule, RegisteredStrategy, Registry
    from freezekit.spec.options import OptionInfo

    Registered = RegisteredStrategy | RegisteredSchedule

Items = list[CompletionItem[str]]

_REGISTERED = re.compile(
    r'^@register_model\b(?:\((?:name="(\w+)")?\))?\s*$.*?^def (\w+)', re.MULTILINE | re.DOTALL
)


def model_names(source: str) -> list[str]:
    """Return the names of the models of "timm" or "torchvision", read from its source text.

    To import the library takes seconds, which is too long for completion.

    Example:
        >>> "resnet18" in model_names("torchvision")
        True
    """
    found = importlib.util.find_spec(source)
    if found is None or found.origin is None:
        return []
    names: set[str] = set()
    for file in (Path(found.origin).parent / "models").rglob("*.py"):
        registered = _REGISTERED.findall(file.read_text(encoding="utf-8"))
        names.update(given or function for given, function in registered)
    return sorted(names)


def complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:  # noqa: ARG001  # click's signature
    """Complete the models of torchvision and timm, files, and the functions of a file."""
    source, colon, _ = incomplete.partition(":")
    sources = [f"{name}:" for name in ("timm", "torchvision")]
    if not colon:
        matching = _starting(incomplete, sources)
        return matching or [CompletionItem(incomplete, type="file")]
    if incomplete.startswith(tuple(sources)):
        return _starting(incomplete, (f"{source}:{name}" for name in model_names(source)))
    if source.endswith(".py"):
        return _starting(incomplete, (f"{source}:{name}" for name in _functions(Path(source))))
    return []


def complete_spec(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:  # noqa: ARG001  # click's signature
    """Complete strategies, then their options, then the values of an option."""
    return _complete_last(incomplete, r"\s[+|]\s+", _registry(ctx).strategies)


def complete_schedule(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:  # noqa: ARG001  # click's signature
    """Complete schedules and their options, or strategies of phases and their options."""
    registry = _registry(ctx)
    begins: Mapping[str, Registered] = registry.strategies
    if not re.search(r"\s(?:then|[+|])\s", incomplete):  # a schedule stands alone
        begins = {**registry.schedules, **begins}
    return _complete_last(incomplete, r"\s(?:then|[+|])\s+", begins)


def complete_strategy(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:  # noqa: ARG001  # click's signature
    """Complete the names of the strategies."""
    return _complete_name(_registry(ctx).strategies, incomplete)


def complete_schedule_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:  # noqa: ARG001  # click's signature
    """Complete the names of the schedules."""
    return _complete_name(_registry(ctx).schedules, incomplete)


def complete_plugin(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:  # noqa: ARG001  # click's signature
    """Complete the names of plugins and of their distributions."""
    from freezekit.plugins.discovery import find_plugins

    found = find_plugins()
    names = {plugin.name for plugin in found} | {plugin.distribution for plugin in found}
    return _starting(incomplete, sorted(names))


def _complete_name(known: Mapping[str, Registered], incomplete: str) -> Items:
    return [
        CompletionItem(name, help=registered.cls.summary)
        for name, registered in known.items()
        if name.startswith(incomplete)
    ]


def _complete_last(incomplete: str, joint: str, known: Mapping[str, Registered]) -> Items:
    """Complete what stands after the last joint: a name, its options, or their values."""
    last = max((found.end() for found in re.finditer(joint, incomplete)), default=0)
    before, part = incomplete[:last], incomplete[last:]
    name, colon, given = part.partition(":")
    items = []
    if not colon:
        for other, registered in known.items():
            if other.startswith(name):
                required = any(option.required for option in _options(registered))
                text = f"{other}:" if required else other
                items.append(CompletionItem(before + text, help=registered.cls.summary))
    if name in known:
        items += _complete_options(_options(known[name]), f"{before}{name}:", given)
    return items


def _complete_options(options: Sequence[OptionInfo], before: str, given: str) -> Items:
    """Complete the name of the last option, or its value; earlier options stay as given."""
    done, comma, last = given.rpartition(",")
    before += done + comma
    name, equals, _ = last.partition("=")
    if equals:
        values = [text for option in options if option.name == name for text in _values(option)]
        return _starting(before + last, (f"{before}{name}={text}" for text in values))
    used = {text.partition("=")[0] for text in done.split(",")}
    return [
        CompletionItem(f"{before}{option.name}=", help=option.help or None)
        for option in options
        if option.name.startswith(name) and option.name not in used
    ]


def _values(option: OptionInfo) -> list[str]:
    kind = option.type
    choices = [write_value(kind, choice) for choice in kind.choices]
    if kind.plain is bool:
        choices = ["true", "false"]
    elif not choices and option.default_text:
        choices = [option.default_text]
    if kind.optional and "none" not in choices:
        choices.append("none")
    return choices


def _registry(ctx: click.Context) -> Registry:
    from freezekit.plugins.registering import load_registry

    return load_registry(ctx.params.get("block") or ())


def _options(registered: Registered) -> tuple[OptionInfo, ...]:
    try:
        return option_infos(registered.cls)
    except PluginError:  # `freezekit plugins` reports it
        return ()


def _functions(file: Path) -> list[str]:
    try:
        body = ast.parse(file.read_text(encoding="utf-8")).body
    except (OSError, SyntaxError, ValueError):
        return []
    return [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def _starting(incomplete: str, texts: Iterable[str]) -> Items:
    return [CompletionItem(text) for text in texts if text.startswith(incomplete)]


class _Bash(BashComplete):
    """Completion in bash, which breaks words at ":" and "=".

    Specs and models contain both marks, and click's own class does not handle them. This class
    reads the whole line. It leaves out the part of each completion that bash sees as earlier words.
    """

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' completion type value
    COMPREPLY=()
    for completion in $(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" \
            COMP_WORDBREAKS="$COMP_WORDBREAKS" %(complete_var)s=bash_complete "$1"); do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[:=] ]] && compopt -o nospace
    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)
        in_word = len(split_arg_string(f"{line}x")) == len(words)  # else a new word begins here
        return (words[1:-1], words[-1]) if in_word else (words[1:], "")

    def complete(self) -> str:
        args, incomplete = self.get_completion_args()
        start = self._start_of_bash_word(incomplete)
        return "\n".join(
            f"{item.type},{item.value[start:]}" for item in self.get_completions(args, incomplete)
        )

    @staticmethod
    def _start_of_bash_word(incomplete: str) -> int:
        """Return where the last of bash's words begins in this word; 0 for a word in quotes."""
        if not re.search(rf"(^|\s){re.escape(incomplete)}$", os.environ["COMP_LINE"]):
            return 0
        breaks = os.environ.get("COMP_WORDBREAKS", ":=")
        return max((incomplete.rfind(mark) + 1 for mark in ":=" if mark in breaks), default=0)


add_completion_class(_Bash)
