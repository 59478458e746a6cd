"""Find plugins in the metadata of the installed distributions, without importing any of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata

from freezekit.plugins.hookspecs import GROUP

OWN = "freezekit"
"""The distribution of the built-in strategies, which come first."""


@dataclass(frozen=True)
class FoundPlugin:
    """One entry point of the group "freezekit".

    Attributes:
        name: The entry point's name.
        module: The module that it names, such as "package.module".
        distribution: The distribution that declares it.
        version: The version of that distribution.
        entry_point: Loads the plugin. None if the declaration cannot be read.
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
        """Name, distribution and version of the plugin, for messages."""
        return f"plugin {self.name!r} of {self.distribution} {self.version}"


def find_plugins() -> tuple[FoundPlugin, ...]:
    """Return the plugins of all distributions on `sys.path`.

    The built-in plugins come first. The others are sorted by distribution and name. If a
    distribution is installed twice, the first on the path counts, as for imports.

    Example:
        >>> all(plugin.module for plugin in find_plugins())
        True
    """
    found: dict[str, list[FoundPlugin]] = {}
    for distribution in metadata.distributions():
        if _declares_plugins(distribution):
            facts = distribution.metadata  # each access parses the file, so ask once
            name = facts["Name"] if "Name" in facts else "unknown"  # noqa: SIM401  # it has no get
            version = facts["Version"] if "Version" in facts else "unknown"  # noqa: SIM401
            found.setdefault(canonical(name), _read(distribution, name, version))
    plugins = [plugin for group in found.values() for plugin in group]
    return tuple(sorted(plugins, key=_rank))


def unmet_requirement(found: FoundPlugin) -> str:
    """Say that a plugin's distribution requires another version of freezekit; "" if it does not."""
    from packaging.requirements import InvalidRequirement, Requirement

    if canonical(found.distribution) == OWN:
        return ""
    distribution = found.entry_point.dist if found.entry_point else None
    try:
        required = [Requirement(text) for text in (distribution and distribution.requires) or ()]
    except InvalidRequirement:  # loading the plugin reports its other errors
        return ""
    installed = metadata.version(OWN)
    for one in required:
        applies = one.marker is None or one.marker.evaluate({"extra": ""})
        if canonical(one.name) == OWN and applies and not one.specifier.contains(installed, True):
            return (
                f"{found.distribution} {found.version} requires freezekit{one.specifier}, but "
                f"freezekit {installed} is installed; install versions that fit together"
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
    except (OSError, UnicodeDecodeError):  # a broken file of an unrelated distribution
        return False


def _read(distribution: metadata.Distribution, name: str, version: str) -> list[FoundPlugin]:
    try:
        entry_points = distribution.entry_points.select(group=GROUP)
    except Exception as error:  # noqa: BLE001  # the parser raises many types on a broken file
        problem = f"its entry_points.txt cannot be read ({error}); install {name} again"
        return [FoundPlugin("?", "", name, version, problem=problem)]
    return [FoundPlugin(ep.name, ep.value, name, version, ep) for ep in entry_points]


def _rank(plugin: FoundPlugin) -> tuple[bool, str, str]:
    return (canonical(plugin.distribution) != OWN, canonical(plugin.distribution), plugin.name)
