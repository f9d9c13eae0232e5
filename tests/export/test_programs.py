"""Models as tensor programs: which can be exported, and that they compute what the models do."""

import sys

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.export import world

import retrank as rr
from retrank.core.jagged import Jagged
from retrank.export.onnx_files import to_onnx, write_onnx
from retrank.export.padded_co_occurrence import PaddedCoOccurrence
from retrank.export.padded_lists import padded_column
from retrank.export.programs import ranker
from retrank.export.tracing import ProgramInput, traced

lists_of_ids = st.lists(st.lists(st.integers(1, 9), max_size=5), min_size=1, max_size=5)


def padded(lists, length, rng):
    """Put ids into a rectangle, with padding before, between and behind them."""
    made = np.zeros((len(lists), length), dtype=np.int64)
    for row, own in enumerate(lists):
        made[row, np.sort(rng.choice(length, len(own), replace=False))] = own
    return torch.from_numpy(made)


@given(lists=lists_of_ids, length=st.integers(5, 7), seed=st.integers(0, 99))
def test_padding_takes_no_part_in_co_occurrence(lists, length, seed):
    rng = np.random.default_rng(seed)
    layer = rr.layers.CoOccurrence(num_ids=10, windows=[1, 2, 4], num_neighbors=int(rng.integers(1, 8)))
    layer.fit(Jagged.from_lists([rng.choice(9, 4, replace=False) + 1 for _ in range(12)]))
    candidates = torch.from_numpy(rng.integers(0, 10, len(lists)))
    made = PaddedCoOccurrence(layer)(padded_column(padded(lists, length, rng), None), candidates)
    torch.testing.assert_close(made, layer(Jagged.from_lists(lists), candidates))


class Pooled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        tables = [rr.EmbeddingTable(10, 3, combiner=how) for how in ("mean", "sum", "sqrtn")]
        self.weighted = torch.nn.ModuleList(tables)
        self.plain = torch.nn.ModuleList([rr.EmbeddingTable(10, 3, combiner="max"), tables[0].to_int8()])

    def on(self, column):
        without = Jagged.unchecked(column.values, column.offsets)
        vectors = [table(column) for table in self.weighted] + [table(without) for table in self.plain]
        return torch.cat(vectors, dim=1)

    def forward(self, *tensors):
        return self.on(padded_column(*tensors))


def test_pooling_of_rectangles_is_that_of_lists():
    model, rng = Pooled().requires_grad_(False), np.random.default_rng(0)
    for table in model.modules():
        if isinstance(table, rr.EmbeddingTable):
            torch.nn.init.normal_(table.weight).data[0] = 0
    inputs = [ProgramInput("ids", "int64", ("rows", "length")), ProgramInput("weights", "float32", ("rows", "length"))]
    program = traced("pooling", model, inputs)
    names = {str(node.target) for node in program.graph.nodes}
    assert not [name for name in names if "bag" in name or "segment" in name]
    for lists in ([[]], [[1, 2], [], [9, 9, 3]], [[5]] * 40):
        ids = padded(lists, 5, rng)
        weights = torch.rand(ids.shape)
        made = program.module()(ids, weights)
        is_there = ids != 0
        column = Jagged.from_padded(ids, is_there, weights)
        torch.testing.assert_close(made, model.on(column))


def space_and_tables():
    history, songs = world.tables()
    return world.space_of(history, songs), history, songs


def sampled(space, history, songs):
    rows = rr.data.with_recent_candidates(history, query="user", candidate="song", time="time", length=8)
    rows = rows.with_columns(seen=pl.col("recent"))
    return space.transform(rows, list(world.QUERY_KINDS)), space.transform(songs, list(world.CANDIDATE_KINDS))


IDS = ("user", "site", "song", "genres", "recent")


def ids_of(space, dim=4):
    return rr.EmbeddingCollection({name: rr.EmbeddingTable(space.schema[name], dim) for name in IDS})


def parts_of(space):
    return ids_of(space), {"dense_features": [space.schema["income"], space.schema["year"]]}


TABLES = {
    "quotient and remainder": lambda schema: rr.embeddings.QuotientRemainderTable(schema, 4, divisor=5),
    "hashed": lambda schema: rr.embeddings.HashedTable(schema, 4, num_buckets=7),
    "mixed dimensions": lambda schema: rr.embeddings.MixedDimensionTable(schema, 8, boundaries=[5], dims=[8, 2]),
    "bfloat16": lambda schema: rr.EmbeddingTable(schema, 8, dtype="bfloat16"),
}
ZOO = {
    "dlrm": lambda space: rr.models.Ranking(parts_of(space)[0], **parts_of(space)[1]),
    "dcn_v2": lambda space: rr.models.dcn_v2(parts_of(space)[0], layers=[8], **parts_of(space)[1]),
    "deepfm": lambda space: rr.models.deepfm(parts_of(space)[0], layers=[8], **parts_of(space)[1]),
    "xdeepfm": lambda space: rr.models.xdeepfm(parts_of(space)[0], layers=[8], **parts_of(space)[1]),
    "autoint": lambda space: rr.models.autoint(parts_of(space)[0], **parts_of(space)[1]),
    "finalmlp": lambda space: rr.models.finalmlp(parts_of(space)[0], **parts_of(space)[1]),
    "wide_and_deep": lambda space: rr.models.wide_and_deep(ids_of(space), ids_of(space, 1), layers=[8]),
    "ncf": lambda space: rr.models.ncf(space.schema["user"], space.schema["song"], dim=8, layers=[16, 8]),
    "tasks": lambda space: rr.models.TaskScore(
        rr.models.MultiTaskRanking(ids_of(space), {"click": rr.tasks.Ranking(), "stars": rr.tasks.Ranking()}),
        {"click": 1.0, "stars": 0.2},
    ),
    "unified embedding": lambda space: rr.models.dcn_v2(
        rr.embeddings.UnifiedEmbedding(dict.fromkeys(IDS, 2), buckets_per_table=50, dim_per_table=4, num_tables=2),
        layers=[8],
    ),
    **{
        kind: lambda space, kind=kind: rr.models.dcn_v2(
            rr.EmbeddingCollection({name: TABLES[kind](space.schema[name]) for name in IDS}), layers=[8]
        )
        for kind in TABLES
    },
    "a byte a number": lambda space: rr.embeddings.quantized(rr.models.dcn_v2(ids_of(space, 8), layers=[8])),
    "reranker without history": lambda space: rr.models.Reranker(space, ["age", "song"], candidate_id="song"),
}


def exported(program, folder):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    translated = to_onnx(program)
    write_onnx(program, translated, folder / "model.onnx")  # which compares a sample
    kinds = {node.op_type for node in translated.model.graph}
    assert not {"Loop", "Scan", "If"} & kinds


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_ranking_models_are_exported(name, tmp_path):
    space, history, songs = space_and_tables()
    model = ZOO[name](space)
    for weight in model.parameters():
        torch.nn.init.normal_(weight.data, std=0.3)
    exported(ranker(model, model.features, *sampled(space, history, songs)), tmp_path)


@pytest.mark.slow
def test_matrix_factorization_is_exported(tmp_path):
    space, history, songs = space_and_tables()
    model = rr.models.MatrixFactorization(space.schema["user"], space.schema["song"], rr.tasks.Retrieval(), dim=4)
    recommender = rr.Recommender(model, space=space, catalogue=songs, history=history, time="time")
    for program in rr.export.tensor_programs(recommender):
        exported(program, tmp_path)


class LooksAtNumbers(rr.core.Configurable, rr.Model):
    features = ("year",)

    def forward(self, batch):
        return batch["year"] * (2 if bool(batch["year"].sum() > 0) else 1)

    def compute_loss(self, batch, training=False):
        return self(batch).mean()


def test_a_model_that_cannot_be_traced_is_refused_with_the_reason():
    space, history, songs = space_and_tables()
    program = ranker(LooksAtNumbers(), ["year"], *sampled(space, history, songs))
    with pytest.raises(rr.errors.ConfigError, match="export of the ranking.*torch.export can trace.*got"):
        _ = program.exported


def test_a_ranking_model_of_queries_alone_is_refused():
    space, history, songs = space_and_tables()
    with pytest.raises(rr.errors.ConfigError, match="features of candidates"):
        ranker(LooksAtNumbers(), ["income"], *sampled(space, history, songs))


def test_a_file_that_computes_something_else_is_refused():
    program = rr.export.tensor_programs(world.serve())[0]
    program.require_same(program.expected, "this")
    for other in (program.expected + 3e-5, program.expected * torch.nan, program.expected[:, :1]):
        with pytest.raises(rr.errors.ConfigError, match="this, query tower: expected what the model computes"):
            program.require_same(other, "this")


def test_inputs_are_named_by_features():
    tower, _, ranking = rr.export.tensor_programs(world.serve("reranker"))
    shapes = {own.name: (own.dtype, own.shape) for own in tower.inputs}
    assert shapes["user"] == ("int64", ("batch",))
    assert shapes["taste"] == ("float32", ("batch", 3))
    assert shapes["recent"] == ("int64", ("batch", "recent.length"))
    assert shapes["recent.weights"] == ("float32", ("batch", "recent.length"))
    assert "seen.weights" not in shapes
    shapes = {own.name: (own.dtype, own.shape) for own in ranking.inputs}
    assert shapes["genres"] == ("int64", ("batch", "candidates", "genres.length"))
    assert shapes["is_standard"] == ("bool", ("batch", "candidates"))


def test_a_feature_that_is_called_as_the_weights_of_another_is_refused():
    plays = pl.DataFrame({"user": list("aabb"), "song": list("pqqr")})
    plays = plays.with_columns(pl.lit(1.0).alias("tags.weights"), tags=pl.lit(["x"]), shares=pl.lit([1.0]))
    names = {
        "user": rr.features.Categorical(),
        "song": rr.features.Categorical(),
        "tags": rr.features.CategoricalList(weights="shares"),
        "tags.weights": rr.features.Passthrough(),
    }
    space = rr.FeatureSpace(names).fit(plays)
    query = rr.models.Tower(space, ["user", "tags", "tags.weights"], layers=[4])
    model = rr.models.TwoTower(query, rr.models.Tower(space, ["song"], layers=[4]), rr.tasks.Retrieval())
    recommender = rr.Recommender(model, space=space, catalogue=plays.select("song").unique(), history=plays)
    with pytest.raises(rr.errors.ConfigError, match="inputs of different names"):
        rr.export.tensor_programs(recommender)


def test_a_missing_extra_and_a_missing_compiler_are_named(tmp_path, monkeypatch):
    recommender = world.serve()
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(rr.errors.ConfigError, match="C\\+\\+ compiler"):
        rr.export.write_export(recommender, tmp_path / "export", ["torch"])
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(rr.errors.MissingExtraError, match=r"retrank\[export\]"):
        rr.export.write_export(recommender, tmp_path / "export", ["onnx"])
    assert list(tmp_path.iterdir()) == []
