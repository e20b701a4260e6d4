"""Providers as plug-ins: packages register them as entry points, and promptreel registers its own in the same way.

The name of an entry point is the prefix of its models' names (`echo` for `echo:tiny`), and its value is a function that
returns the provider of a run's model. Only the provider that a run uses is imported.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from typing import Final

from promptreel.providers.base import Provider
from promptreel.schemas.errors import SettingsError
from promptreel.schemas.settings import RunSettings

GROUP: Final = "promptreel.providers"

ProviderBuilder = Callable[[RunSettings], Provider]


@functools.cache
def installed_plugins() -> Mapping[str, tuple[EntryPoint, ...]]:
    """Return the installed entry points by name; several of one name come from different packages. Imports nothing."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def build_from_plugin(name: str, settings: RunSettings) -> Provider | None:
    """Return the provider that the plug-in of this name builds; None if no package registers the name.

    Raises:
        SettingsError: names the plug-in that cannot be used and its package, or that rejects the settings.
    """
    if name not in installed_plugins():
        return None
    entry = _entry_named(name)
    provider = _load(entry)(settings)
    if not isinstance(provider, Provider):
        raise _unusable(entry, f"{entry.value!r} returned {type(provider).__name__}, not a Provider")
    return provider


def plugin_error(name: str) -> str | None:
    """Return why the plug-in of this name cannot be loaded; None if it can."""
    try:
        _load(_entry_named(name))
    except SettingsError as error:
        return str(error)
    return None


def _entry_named(name: str) -> EntryPoint:
    entries = installed_plugins()[name]
    if len(entries) > 1:
        packages = " and ".join(sorted(package_of(entry) for entry in entries))
        raise SettingsError(f"the model prefix {name!r} is registered by {packages}; uninstall one of them")
    return entries[0]


def _load(entry: EntryPoint) -> ProviderBuilder:
    try:
        build = entry.load()
    except Exception as error:  # importing a module of another package runs any code
        raise _unusable(entry, f"{type(error).__name__}: {error}") from error
    if not callable(build):
        raise _unusable(entry, f"{entry.value!r} is not callable")
    found: ProviderBuilder = build
    return found


def _unusable(entry: EntryPoint, cause: str) -> SettingsError:
    package = package_of(entry)
    version = f" {entry.dist.version}" if entry.dist is not None else ""
    return SettingsError(
        f"the provider {entry.name!r} of package {package}{version} cannot be used ({cause}); "
        f"update or uninstall {package}"
    )


def package_of(entry: EntryPoint) -> str:
    """Return the name of the package that registers an entry point."""
    return entry.dist.name if entry.dist is not None else entry.value.partition(".")[0]
