"""Which extras of retrank are installed."""

import importlib.util
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["EXTRAS", "install_line", "is_installed"]

EXTRAS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "ann": ("faiss",),
        "export": ("onnx", "onnxscript", "onnxruntime"),
        "hub": ("huggingface_hub",),
        "mlflow": ("mlflow",),
        "plot": ("matplotlib",),
        "postgres": ("psycopg",),
        "redis": ("redis",),
        "serve": ("fastapi", "uvicorn", "msgspec", "prometheus_client"),
        "tensorboard": ("tensorboard",),
    }
)
"""The modules of each extra."""


def is_installed(extra: str) -> bool:
    """Tell whether all modules of an extra are there, without importing them.

    Args:
        extra: its name.
    """
    return all(importlib.util.find_spec(module) is not None for module in EXTRAS[extra])


def install_line(extra: str) -> str:
    """Return the command that installs an extra.

    Args:
        extra: its name.

    Example:
        >>> from retrank.cli.extras import install_line
        >>> print(install_line("serve"))
        pip install "retrank[serve]"
    """
    return f'pip install "retrank[{extra}]"'
