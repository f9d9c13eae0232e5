"""Models traced for any number of rows: columns go in as plain tensors."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from retrank.core.batch import Batch, Column
from retrank.core.errors import ConfigError
from retrank.core.jagged import Jagged
from retrank.core.schema import UNKNOWN_ID
from retrank.export.padded_lists import padded_column, with_rectangles
from retrank.models.pairs import LIST

__all__ = [
    "BATCH",
    "CANDIDATES",
    "Dtype",
    "ProgramInput",
    "RankerModule",
    "TowerModule",
    "inputs_of",
    "quiet",
    "tensors_of",
    "traced",
]

Dtype = Literal["int64", "float32", "bool"]
"""Of the numbers of an input."""

BATCH: Final = "batch"
"""The dimension of the rows of a tower, and of the lists of a ranking model."""
CANDIDATES: Final = "candidates"
"""The dimension of the candidates of a list."""
_WEIGHTS: Final = ".weights"
_LENGTH: Final = ".length"
_EXAMPLE_SIZE: Final = 3  # of the first size of the tensors that are traced; each has another, so that none seem equal
_LOGGERS: Final = ("torch._guards", "torch.fx.experimental.symbolic_shapes", "torch.onnx", "torch._dynamo")


@final
@dataclass(frozen=True)
class ProgramInput:
    """One tensor that goes into a program.

    Args:
        name: that of the feature; with `.weights` behind it for the weights of a list.
        dtype: of the numbers.
        shape: sizes, and names of those that vary. A list has as many places as its longest row, 0 for padding.
    """

    name: str
    dtype: Dtype
    shape: tuple[str | int, ...]


def tensors_of(inputs: Sequence[ProgramInput], columns: Mapping[str, Column]) -> list[Tensor]:
    """Bring columns into the form in which they go into a program of rows.

    Args:
        inputs: of the program.
        columns: by feature; lists are padded behind their end, to a length of at least 1.

    Returns:
        A tensor for each input.
    """
    return [_tensor_of(own.name, columns) for own in inputs]


def _tensor_of(name: str, columns: Mapping[str, Column]) -> Tensor:
    is_weights = name not in columns
    column = columns[name.removesuffix(_WEIGHTS) if is_weights else name]
    if isinstance(column, Tensor):
        return column
    length = max(int(column.lengths().max()) if len(column) else 0, 1)
    if not is_weights:
        return column.to_padded(length)
    weights = torch.ones(len(column.values)) if column.weights is None else column.weights
    return Jagged.unchecked(weights, column.offsets).to_padded(length)


def inputs_of(name: str, column: Column, rows: tuple[str, ...]) -> list[ProgramInput]:
    """Describe what a column becomes.

    Args:
        name: of the feature.
        column: one such.
        rows: the names of the dimensions of its rows.

    Returns:
        One input, or two for lists with weights.
    """
    if isinstance(column, Tensor):
        dtype: Dtype = "int64" if column.dtype == torch.int64 else "float32"
        return [ProgramInput(name, dtype, (*rows, *column.shape[1:]))]
    shape = (*rows, name + _LENGTH)
    ids = ProgramInput(name, "int64", shape)
    return [ids] if column.weights is None else [ids, ProgramInput(name + _WEIGHTS, "float32", shape)]


class _Columns(nn.Module):
    """Puts plain tensors together to columns.

    Args:
        inputs: what the tensors are.
    """

    def __init__(self, inputs: Sequence[ProgramInput]) -> None:
        super().__init__()
        self.names = [own.name for own in inputs]
        self.are_lists = [str(own.shape[-1]).endswith(_LENGTH) for own in inputs]

    def columns(self, tensors: Sequence[Tensor]) -> dict[str, Column]:
        """Return the columns of tensors whose first dimension is the row."""
        given = dict(zip(self.names, tensors, strict=True))
        made: dict[str, Column] = {}
        for name, is_list in zip(self.names, self.are_lists, strict=True):
            if not is_list:
                made[name] = given[name]
            elif name.removesuffix(_WEIGHTS) not in made:
                made[name] = padded_column(given[name], given.get(name + _WEIGHTS))
        return made


@final
class TowerModule(_Columns):
    """Embeds rows.

    Args:
        model: holds the weights.
        embed: its method that embeds.
        inputs: what goes in.
    """

    def __init__(self, model: nn.Module, embed: Callable[[Batch], Tensor], inputs: Sequence[ProgramInput]) -> None:
        super().__init__(inputs)
        self.model, self.embed = model, embed

    def forward(self, *tensors: Tensor) -> Tensor:
        """Return `(batch, dim)`."""
        return self.embed(Batch(self.columns(tensors)))


@final
class RankerModule(_Columns):
    """Scores lists of candidates.

    Args:
        model: `(pairs) -> (pairs,)` scores.
        inputs: what goes in; those of candidates have the dimension `CANDIDATES`.
    """

    def __init__(self, model: nn.Module, inputs: Sequence[ProgramInput]) -> None:
        super().__init__(inputs)
        self.model = model
        self.are_of_pairs = [CANDIDATES in own.shape for own in inputs]

    def forward(self, *tensors: Tensor) -> Tensor:
        """Return `(batch, candidates)`."""
        batch, num = next(t.shape[:2] for t, pairs in zip(tensors, self.are_of_pairs, strict=True) if pairs)
        of_pairs = [
            (t if pairs else t.unsqueeze(1).expand(batch, num, *t.shape[1:])).reshape(
                batch * num, *t.shape[1 + pairs :]
            )
            for t, pairs in zip(tensors, self.are_of_pairs, strict=True)
        ]
        lists = torch.arange(batch).unsqueeze(1).expand(batch, num).reshape(-1)
        scores: Tensor = self.model(Batch({**self.columns(of_pairs), LIST: lists}))
        return scores.reshape(batch, num)


def traced(name: str, module: nn.Module, inputs: Sequence[ProgramInput]) -> ExportedProgram:
    """Trace a module.

    Args:
        name: of the program, for messages.
        module: takes one tensor per input.
        inputs: what goes in.

    Returns:
        The program, for any sizes of at least 1.

    Raises:
        ConfigError: it cannot be traced.
    """
    sizes = {size: None for own in inputs for size in own.shape if isinstance(size, str)}
    dims = {size: Dim(f"size_{place}", min=1) for place, size in enumerate(sizes)}
    lengths = {size: _EXAMPLE_SIZE + place for place, size in enumerate(sizes)}
    examples = tuple(_example(own, lengths) for own in inputs)
    shapes = tuple(
        {place: dims[size] for place, size in enumerate(own.shape) if isinstance(size, str)} for own in inputs
    )
    try:
        with torch.no_grad(), quiet():
            return with_rectangles(torch.export.export(module, examples, dynamic_shapes=(shapes,), strict=True))
    except Exception as error:  # of torch, of many kinds
        reason = str(error).strip().splitlines() or [""]
        raise ConfigError(
            "a model that torch.export can trace for any number of rows",
            f"{type(error).__name__}: {reason[0]}",
            f"export of the {name.replace('_', ' ')}",
            "leave out what depends on the numbers in a tensor, or serve this model by retrank itself",
        ) from error


def _example(own: ProgramInput, sizes: Mapping[str, int]) -> Tensor:
    shape = [sizes[size] if isinstance(size, str) else size for size in own.shape]
    fill = {"int64": UNKNOWN_ID, "float32": 1.0, "bool": True}[own.dtype]
    return torch.full(shape, fill, dtype=getattr(torch, own.dtype))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep back what torch's exporters tell of their own workings."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
