"""Optional dependencies, fetched by name when a feature first needs them."""

import importlib
from types import ModuleType

from retrank.core.errors import MissingExtraError

__all__ = ["optional"]


def optional(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: dotted name of the module, e.g. `"faiss"`.
        extra: the extra of retrank that installs it, e.g. `"ann"`.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: the module is not installed; the message holds the install line.

    Example:
        >>> import retrank as rr
        >>> rr.core.optional("math", extra="none").sqrt(4.0)
        2.0
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            expected=f"the optional dependency '{module}'",
            got=f"{type(error).__name__}: {error}",
            where=f"extra '{extra}'",
            fix=f'install it with: pip install "retrank[{extra}]"',
        ) from error
