"""Models as tensor programs: columns go in as plain tensors, embeddings or scores come out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, final

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from retrank.core.batch import Batch
from retrank.core.errors import ConfigError
from retrank.export.padded_co_occurrence import traceable
from retrank.export.tracing import (
    BATCH,
    CANDIDATES,
    Dtype,
    ProgramInput,
    RankerModule,
    TowerModule,
    inputs_of,
    tensors_of,
    traced,
)
from retrank.models.pairs import (
    IS_STANDARD,
    PAIR_COLUMNS,
    RETRIEVAL_RANK,
    RETRIEVAL_SCORE,
    Candidates,
    pair_batch,
)
from retrank.models.vector_model import VectorModel
from retrank.training.device import model_device
from retrank.training.mode import evaluating
from retrank.training.model import Model

__all__ = ["Program", "candidate_tower", "query_tower", "ranker"]

_PAIR_DTYPES: Final[dict[str, Dtype]] = {RETRIEVAL_SCORE: "float32", RETRIEVAL_RANK: "int64", IS_STANDARD: "bool"}
_SAMPLE: Final = 64  # rows that are compared
_LISTS: Final = 16
_TOLERANCE: Final = 1e-5


@final
@dataclass(frozen=True, eq=False)  # modules and tensors have no truth of being equal
class Program:
    """A model as a tensor program.

    Args:
        name: `"query_tower"`, `"candidate_tower"` or `"ranking"`.
        inputs: what goes in, in order.
        output: the name of what comes out: `"embeddings"`, `(batch, dim)`, or `"scores"`, `(batch, candidates)`.
        module: takes a tensor for each input. It is what gets traced; run as it is, it is a slow way to the same.
        sample: tensors that can go in.
        expected: what the model makes of them.

    Raises:
        ConfigError: two inputs of one name.
    """

    name: str
    inputs: tuple[ProgramInput, ...]
    output: Literal["embeddings", "scores"]
    module: nn.Module
    sample: tuple[Tensor, ...]
    expected: Tensor

    def __post_init__(self) -> None:
        names = [own.name for own in self.inputs]
        if len(set(names)) < len(names):
            raise ConfigError("inputs of different names", str(names), self.name, "give the feature another name")

    @cached_property
    def exported(self) -> ExportedProgram:
        """The traced model, in operations that ONNX and Inductor know; a model that cannot be traced is refused."""
        return traced(self.name, self.module, self.inputs)

    def require_same(self, made: Tensor, by: str) -> None:
        """Refuse a file that does not compute what the model does.

        Args:
            made: of the sample.
            by: what made it, for the message.

        Raises:
            ConfigError: another shape, or numbers that differ by more than 1e-5.
        """
        limit = _TOLERANCE * max(1.0, float(self.expected.abs().max()))
        if made.shape != self.expected.shape:
            got = f"shape {tuple(made.shape)}"
        elif not bool((made - self.expected).abs().max() <= limit):  # NaN is not
            got = f"a difference of {float((made - self.expected).abs().max()):.2g}"
        else:
            return
        raise ConfigError(
            f"what the model computes, within {limit:.2g}",
            got,
            f"{by}, {self.name.replace('_', ' ')}",
            "serve this model by retrank itself, and report it",
        )


def query_tower(model: VectorModel, queries: Batch) -> Program:
    """Take what embeds queries.

    Args:
        model: embeds queries and candidates.
        queries: some, transformed.

    Returns:
        From the features of queries to `(batch, dim)`.
    """
    copied = traceable(model)
    assert isinstance(copied, VectorModel)
    sample = queries.select(model.query_features)[:_SAMPLE]
    return _tower("query_tower", copied, copied.query_embeddings, sample, model.embed_queries(sample))


def candidate_tower(model: VectorModel, candidates: Batch) -> Program:
    """Take what embeds candidates.

    Args:
        model: embeds queries and candidates.
        candidates: some, transformed.

    Returns:
        From the features of candidates to `(batch, dim)`.
    """
    copied = traceable(model)
    assert isinstance(copied, VectorModel)
    sample = candidates.select(model.candidate_features)[:_SAMPLE]
    return _tower("candidate_tower", copied, copied.candidate_embeddings, sample, model.embed_candidates(sample))


def ranker(model: Model, features: Sequence[str], queries: Batch, candidates: Batch) -> Program:
    """Take what scores lists of candidates.

    Args:
        model: `(pairs) -> (pairs,)` scores.
        features: the columns that it reads.
        queries: some, transformed.
        candidates: some, transformed; a feature that both have is the candidate's.

    Returns:
        From the features of queries, `(batch, ...)`, and of the candidates of their lists, `(batch, candidates, ...)`,
        to `(batch, candidates)`.

    Raises:
        ConfigError: a model that reads nothing of candidates.
    """
    of_candidates = [name for name in features if name in candidates and name not in PAIR_COLUMNS]
    of_queries = [name for name in features if name not in candidates and name not in PAIR_COLUMNS]
    of_pairs = [name for name in _PAIR_DTYPES if name in features]
    inputs = [
        *(own for name in of_queries for own in inputs_of(name, queries[name], (BATCH,))),
        *(own for name in of_candidates for own in inputs_of(name, candidates[name], (BATCH, CANDIDATES))),
        *(ProgramInput(name, _PAIR_DTYPES[name], (BATCH, CANDIDATES)) for name in of_pairs),
    ]
    if not of_candidates and not of_pairs:
        raise ConfigError("features of candidates", str(list(features)), "ranking model", "rank by retrieval alone")
    lists = _some_lists(len(queries), len(candidates))
    num_standard = lists.rows.shape[1] // 2 + 1
    pairs = pair_batch(queries[: len(lists.rows)], candidates, lists, num_standard=num_standard)
    with evaluating(model), torch.no_grad():
        expected = model(pairs.select(list(features)).to(model_device(model))).cpu().view(lists.rows.shape)
    of_lists = {name: pairs[name] for name in (*of_candidates, *of_pairs)} | {
        name: queries[name] for name in of_queries
    }
    sample = [
        tensor.reshape(*lists.rows.shape, *tensor.shape[1:]) if CANDIDATES in own.shape else tensor[: len(lists.rows)]
        for own, tensor in zip(inputs, tensors_of(inputs, of_lists), strict=True)
    ]
    return Program("ranking", tuple(inputs), "scores", RankerModule(traceable(model), inputs), tuple(sample), expected)


def _some_lists(num_queries: int, num_candidates: int) -> Candidates:
    generator = torch.Generator().manual_seed(0)
    shape = (min(num_queries, _LISTS), min(num_candidates, _LISTS))
    rows = torch.stack([torch.randperm(num_candidates, generator=generator)[: shape[1]] for _ in range(shape[0])])
    scores = torch.rand(shape, generator=generator).sort(dim=1, descending=True).values
    scores[0] = 0.5  # a list of which nothing can be told apart
    return Candidates(scores, rows)


def _tower(name: str, model: VectorModel, embed: Callable[[Batch], Tensor], sample: Batch, expected: Tensor) -> Program:
    inputs = [own for feature, column in sample.items() for own in inputs_of(feature, column, (BATCH,))]
    given = tensors_of(inputs, dict(sample.items()))
    return Program(name, tuple(inputs), "embeddings", TowerModule(model, embed, inputs), tuple(given), expected.cpu())
