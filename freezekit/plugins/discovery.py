"""Which plugins there are: a look at the installed distributions, without importing any of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata

from freezekit.plugins.hookspecs import GROUP

OWN = "freezekit"
"""The distribution whose strategies come first."""


@dataclass(frozen=True)
class FoundPlugin:
    """One entry point of the group "freezekit".

    Attributes:
        name: The entry point's name.
        module: What it points at, such as "package.module".
        distribution: The distribution that declares it.
        version: That distribution's version.
        entry_point: To load it with; None where the declaration cannot be read.
        problem: Why the declaration cannot be read, or "".
    """

    name: str
    module: str
    distribution: str
    version: str
    entry_point: metadata.EntryPoint | None = None
    problem: str = ""

    @property
    def origin(self) -> str:
        """The plugin in words, for messages."""
        return f"plugin {self.name!r} of {self.distribution} {self.version}"


def find_plugins() -> tuple[FoundPlugin, ...]:
    """Return the plugins of all distributions on `sys.path`.

    The built-in ones come first, the others by distribution and name. Of a distribution that is
    there twice, the one that comes first on the path counts, as for imports.

    Example:
        >>> all(plugin.module for plugin in find_plugins())
        True
    """
    found: dict[str, list[FoundPlugin]] = {}
    for distribution in metadata.distributions():
        if _declares_plugins(distribution):
            facts = distribution.metadata  # parsed anew at each access
            name = facts["Name"] if "Name" in facts else "unknown"  # noqa: SIM401  # it has no get
            version = facts["Version"] if "Version" in facts else "unknown"  # noqa: SIM401
            found.setdefault(canonical(name), _read(distribution, name, version))
    plugins = [plugin for group in found.values() for plugin in group]
    return tuple(sorted(plugins, key=_rank))


def unmet_requirement(found: FoundPlugin) -> str:
    """Say that a plugin's distribution asks for another version of freezekit; "" if it does not."""
    from packaging.requirements import InvalidRequirement, Requirement

    if canonical(found.distribution) == OWN:
        return ""
    distribution = found.entry_point.dist if found.entry_point else None
    try:
        asked = [Requirement(text) for text in (distribution and distribution.requires) or ()]
    except InvalidRequirement:  # what is wrong with the plugin is told all the same
        return ""
    here = metadata.version(OWN)
    for one in asked:
        applies = one.marker is None or one.marker.evaluate({"extra": ""})
        if canonical(one.name) == OWN and applies and not one.specifier.contains(here, True):
            return (
                f"{found.distribution} {found.version} is made for freezekit{one.specifier}, and "
                f"this is freezekit {here}: install versions that go together"
            )
    return ""


def canonical(name: str) -> str:
    """Return a name as package indexes compare it.

    Example:
        >>> canonical("My_Plugin.x")
        'my-plugin-x'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def _declares_plugins(distribution: metadata.Distribution) -> bool:
    try:
        return f"[{GROUP}]" in (distribution.read_text("entry_points.txt") or "")
    except (OSError, UnicodeDecodeError):  # some other project's broken file
        return False


def _read(distribution: metadata.Distribution, name: str, version: str) -> list[FoundPlugin]:
    try:
        entry_points = distribution.entry_points.select(group=GROUP)
    except Exception as error:  # noqa: BLE001  # the parser fails in many ways on a broken file
        problem = f"its entry_points.txt cannot be read ({error}); install {name} again"
        return [FoundPlugin("?", "", name, version, problem=problem)]
    return [FoundPlugin(ep.name, ep.value, name, version, ep) for ep in entry_points]


def _rank(plugin: FoundPlugin) -> tuple[bool, str, str]:
    return (canonical(plugin.distribution) != OWN, canonical(plugin.distribution), plugin.name)
