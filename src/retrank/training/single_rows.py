"""Batches of one row, of which a batch norm cannot learn: said in our words."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from torch import nn

from retrank.core.errors import ConfigError

__all__ = ["explained_single_rows"]

_BATCH_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@contextmanager
def explained_single_rows(model: nn.Module, num_rows: int) -> Iterator[None]:
    """Run a forward pass of training; say which batch norm got one value a channel, if one did, and what to do.

    Args:
        model: has the batch norm somewhere.
        num_rows: rows of the batch.

    Raises:
        ConfigError: a batch norm had one value a channel.
    """
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("Expected more than 1 value per channel"):
            raise
        names = [name for name, module in model.named_modules() if isinstance(module, _BATCH_NORMS) and module.training]
        rows = "a batch of one row" if num_rows == 1 else f"one value per channel in a batch of {num_rows} rows"
        one, other = "pass drop_last=True to the loader, or another batch_size", "use larger batches"
        raise ConfigError(
            "at least two values per channel, for a batch norm in training",
            rows,
            f"{type(model).__name__}, batch norm {' or '.join(map(repr, names))}",
            f"{one if num_rows == 1 else other}; a LayerNorm takes any number of rows",
        ) from error
