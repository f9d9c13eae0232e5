"""The public names of types and functions in files: where users import them from, whatever module defines them."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from retrank.core.errors import ConfigError

__all__ = ["RENAMED", "known_by_name", "public_name"]

Known = TypeVar("Known")

_OURS: Final = "retrank"

RENAMED: Final[Mapping[str, str]] = {
    "retrank.evaluation.baselines.EASE": "retrank.baselines.EASE",
    "retrank.evaluation.baselines.ItemKNN": "retrank.baselines.ItemKNN",
    "retrank.evaluation.baselines.Popularity": "retrank.baselines.Popularity",
    "retrank.layers.Product": "retrank.layers.HadamardProduct",
    "retrank.layers.TwoStream": "retrank.layers.TwoStreamMLP",
}
"""Public name of earlier versions to today's; files that hold the earlier one still load."""


def public_name(value: type | Callable[..., Any]) -> str:
    """Name a type or function in a way that outlives changes of the modules that define it.

    Args:
        value: one of this package is named by the package that exports it, one of users by its module.

    Returns:
        The dotted name.

    Example:
        >>> import retrank as rr
        >>> from retrank.core.names import public_name
        >>> public_name(rr.models.TwoTower)
        'retrank.models.TwoTower'
    """
    module, name = value.__module__, value.__qualname__
    return f"{module.rpartition('.')[0] if module.startswith(f'{_OURS}.') else module}.{name}"


def known_by_name(registry: Mapping[str, Known], name: str, what: str) -> Known:
    """Look up what a file names.

    Args:
        registry: by `public_name`.
        name: one that `public_name` gives, or gave in an earlier version; before there were public names, files held
            the module that defined a type, e.g. `retrank.models.two_tower.TwoTower`.
        what: of which kind it is, for messages.

    Returns:
        The entry.

    Raises:
        ConfigError: an unknown name.
    """
    package, _, own = name.rpartition(".")
    without_module = f"{package.rpartition('.')[0]}.{own}"
    names = [name, without_module] if name.startswith(f"{_OURS}.") else [name]
    for candidate in [known for given in names for known in (given, RENAMED.get(given, ""))]:
        if candidate in registry:
            return registry[candidate]
    raise ConfigError(
        f"a {what} that is known here", f"'{name}'", "from_config", "import the module that defines it, then load again"
    )
