"""Operations on lists as operations on rectangles: what torch does by offsets is slow, or not there, elsewhere."""

from typing import Final

import torch
from torch import Tensor
from torch.export import ExportedProgram

from retrank.core.errors import ConfigError
from retrank.core.jagged import Jagged

__all__ = ["padded_column", "with_rectangles"]

_SUM: Final = 0  # torch's number of the mode


def padded_column(values: Tensor, weights: Tensor | None) -> Jagged:
    """Make a column of lists that all have one length: padding counts as ids, which take no part wherever lists are.

    Args:
        values: `(rows, length)` ids, 0 for padding.
        weights: `(rows, length)` floats, or None.

    Returns:
        The column.
    """
    rows, length = values.shape
    offsets = torch.arange(rows + 1) * length
    return Jagged.unchecked(values.reshape(-1), offsets, None if weights is None else weights.reshape(-1))


def with_rectangles(program: ExportedProgram) -> ExportedProgram:
    """Replace operations on lists by operations on rectangles; every list must be what `padded_column` made.

    Args:
        program: a traced model.

    Returns:
        The program in the operations that ONNX and Inductor know.
    """
    table = torch.export.default_decompositions()
    table.update(  # type: ignore[no-untyped-call]
        {
            torch.ops.aten.segment_reduce.default: _segment_reduce,
            torch.ops.aten._embedding_bag.default: _embedding_bag,
            torch.ops.aten._embedding_bag_forward_only.default: _embedding_bag,
            torch.ops.aten.repeat_interleave.self_Tensor: _repeat_interleave,
        }
    )
    decomposed: ExportedProgram = program.run_decompositions(table)
    return decomposed


def _segment_reduce(
    data: Tensor,
    reduce: str,
    *,
    lengths: Tensor | None = None,
    indices: Tensor | None = None,  # noqa: ARG001 (torch's signature)
    offsets: Tensor | None = None,
    axis: int = 0,
    unsafe: bool = False,  # noqa: ARG001
    initial: float | None = None,  # noqa: ARG001 (no rectangle is without columns)
) -> Tensor:
    if offsets is None or lengths is not None or axis != 0 or reduce not in ("sum", "max"):
        raise _unknown(f"segment_reduce by '{reduce}'")
    lists = data.reshape(offsets.shape[0] - 1, -1, *data.shape[1:])
    return lists.sum(1) if reduce == "sum" else lists.amax(1)


def _embedding_bag(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,  # noqa: ARG001
    mode: int = _SUM,
    sparse: bool = False,  # noqa: ARG001
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if mode != _SUM or not include_last_offset or padding_idx >= 0:
        raise _unknown("embedding_bag in another mode than a sum of lists without padding")
    vectors = torch.nn.functional.embedding(indices, weight)
    if per_sample_weights is not None:
        vectors = vectors * per_sample_weights.unsqueeze(1)
    pooled = vectors.reshape(offsets.shape[0] - 1, -1, weight.shape[1]).sum(1)
    return pooled, indices, indices, indices  # of which the gradient alone reads the last three


def _repeat_interleave(
    values: Tensor,
    repeats: Tensor,  # noqa: ARG001
    dim: int | None = None,
    *,
    output_size: int | None = None,
) -> Tensor:
    if dim not in (None, 0) or values.dim() != 1 or output_size is None:
        raise _unknown("repeat_interleave by a tensor, of something else than row numbers")
    rows = values.shape[0]
    return values.unsqueeze(1).expand(rows, output_size // rows).reshape(-1)


def _unknown(what: str) -> ConfigError:
    return ConfigError("operations that have a form for padded lists", what, "export")
