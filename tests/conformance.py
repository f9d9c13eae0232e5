"""What every model, task, feature kind, index and sampler must do, whatever else it does.

Subclass one of the classes as `Test...` and let its fixture `case` yield one case after the other.
"""

import copy
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn.parameter import is_lazy

import retrank as rr

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@dataclass(frozen=True, eq=False)
class ModelCase:
    """A model in a small world that it can learn.

    `rows` are for `forward`, `examples` for `compute_loss`; `context` rebuilds the model from its configuration. After
    `epochs` the loss must be below `bar` times that of the untrained model. A ranking of whole lists has no independent
    rows; a loss over the catalogue reads more ids than those of its examples.
    """

    build: Callable[[], rr.Model]
    examples: rr.Batch
    rows: rr.Batch
    context: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 12
    bar: float = 0.7
    are_rows_independent: bool = True
    reads_catalogue: bool = False

    def new(self, seed: int = 0) -> rr.Model:
        torch.manual_seed(seed)
        return self.build()

    def fit(self, epochs: int, seed: int = 0, **arguments: Any) -> rr.Model:
        model = self.new(seed)
        loader = rr.data.Loader(self.examples, batch_size=64, shuffle=True, seed=seed)
        arguments = {"device": "cpu", "progress": False, "seed": seed} | arguments
        model.fit(loader, optimizer=rr.optim.LazyAdam(lr=0.03), epochs=epochs, **arguments)
        return model

    @functools.cached_property
    def weights(self) -> dict[str, torch.Tensor]:
        """Those after one epoch."""
        return self.fit(1).state_dict()

    def trained(self) -> rr.Model:
        model = self.new()
        model.load_state_dict(self.weights)
        return model


def with_ids(batch: rr.Batch, value: int) -> rr.Batch:
    """Replace every id of a batch."""
    columns = {}
    for name, column in batch.items():
        if isinstance(column, rr.Jagged):
            columns[name] = rr.Jagged(torch.full_like(column.values, value), column.offsets, column.weights)
        elif not column.is_floating_point() and column.dim() == 1:
            columns[name] = torch.full_like(column, value)
    return batch.merge(columns)


class ModelConformance:
    """What every model must do."""

    def test_config_round_trip(self, case):
        model = case.new()
        config = json.loads(json.dumps(rr.core.to_config(model)))
        again = rr.core.from_config(config, **case.context)
        assert type(again) is type(model)
        assert rr.core.to_config(again) == config
        again.load_state_dict(model.state_dict())
        assert torch.equal(again.eval()(case.rows), model.eval()(case.rows))
        assert torch.equal(again.compute_loss(case.examples), model.compute_loss(case.examples))

    def test_saved_weights_come_back_to_the_bit(self, case, tmp_path):
        model, other = case.trained(), case.new(seed=1)
        assert not torch.equal(model.eval()(case.rows), other.eval()(case.rows))
        rr.training.save_weights(tmp_path / "weights", model)
        rr.training.load_weights(tmp_path / "weights", other)
        assert torch.equal(model(case.rows), other(case.rows))

    def test_a_run_that_was_cut_in_two_ends_as_a_whole_one(self, case, tmp_path):
        whole = case.fit(2)
        case.fit(1, checkpoint=tmp_path / "run")
        halves = case.fit(2, checkpoint=tmp_path / "run")
        assert_same_weights(whole, halves)

    def test_a_seed_decides_everything(self, case):
        assert_same_weights(case.fit(1), case.trained())
        other = case.fit(1, seed=1).state_dict()
        assert any(not torch.equal(weight, other[name]) for name, weight in case.weights.items())

    def test_nothing_stays_lazy_and_parameters_divide_into_two(self, case):
        model = case.new()
        assert not any(is_lazy(parameter) for parameter in model.parameters())
        parts = [*model.embedding_parameters, *model.dense_parameters]
        assert sorted(map(id, parts)) == sorted(map(id, model.parameters()))
        tables = {id(m.weight) for m in model.modules() if isinstance(m, rr.EmbeddingTable)}
        assert {id(parameter) for parameter in model.embedding_parameters} == tables

    def test_features_are_all_that_forward_reads(self, case):
        model = case.new().eval()
        assert torch.equal(model(case.rows.select(model.features)), model(case.rows))
        for name in model.features:
            with pytest.raises(rr.errors.DataError, match=name):
                model(case.rows.select([other for other in case.rows.names if other != name]))

    def test_the_batch_stays_as_it_is(self, case):
        before = copy.deepcopy(dict(case.examples.items()))
        case.new().compute_loss(case.examples, training=True)
        assert list(case.examples.names) == list(before)
        assert all(same(case.examples[name], column) for name, column in before.items())

    @pytest.mark.parametrize("value", [rr.core.schema.PADDING_ID, rr.core.schema.UNKNOWN_ID])
    def test_unknown_and_missing_ids_are_scored(self, case, value):
        model = case.trained().eval()
        assert model(with_ids(case.rows, value)).isfinite().all()

    def test_a_row_alone_is_scored_as_among_others(self, case):
        model = case.trained().eval()
        together = model(case.rows)
        assert together.shape[0] == len(case.rows)
        if case.are_rows_independent:
            for row in (0, len(case.rows) - 1):
                alone = model(case.rows[row : row + 1])
                torch.testing.assert_close(alone, together[row : row + 1], rtol=1e-4, atol=1e-5)

    def test_one_example_has_a_loss(self, case):
        loss = case.new().compute_loss(case.examples[:1], training=True)
        assert loss.shape == ()
        assert loss.isfinite()
        loss.backward()

    def test_an_empty_batch_has_no_scores_and_no_loss(self, case):
        model = case.new()
        assert model.eval()(case.rows[:0]).shape == (0, *model(case.rows).shape[1:])
        model.train()
        loss = model.compute_loss(case.examples[:0], training=True)
        assert loss == 0
        loss.backward()
        assert all(not p.grad.to_dense().any() for p in model.parameters() if p.grad is not None)

    def test_every_weight_learns_and_tables_only_in_their_rows(self, case):
        model = case.trained()
        model.compute_loss(case.examples, training=True).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
        for table in model.embedding_parameters:
            assert table.grad.is_sparse
            assert not table.grad.to_dense()[rr.core.schema.PADDING_ID].any()
        if not case.reads_catalogue:
            model.zero_grad()
            model.compute_loss(with_ids(case.examples, rr.core.schema.UNKNOWN_ID), training=True).backward()
            for table in model.embedding_parameters:
                assert table.grad.is_sparse
                assert set(table.grad.coalesce().indices()[0].tolist()) <= {rr.core.schema.UNKNOWN_ID}

    @pytest.mark.parametrize("device", DEVICES)
    def test_it_moves_to_a_device(self, case, device):
        model = case.trained().eval()
        expected = model(case.rows)
        model.to(device)
        for examples in (case.examples[:8], case.examples):
            model.train()
            loss = model.compute_loss(examples.to(device), training=True)
            assert loss.device.type == device
            loss.backward()
        with torch.no_grad():
            scores = model.eval()(case.rows.to(device))
        torch.testing.assert_close(scores.cpu(), expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(model.cpu()(case.rows), expected, rtol=1e-4, atol=1e-5)

    def test_it_learns_what_there_is_to_learn(self, case):
        loader = rr.data.Loader(case.examples, batch_size=len(case.examples))
        before = case.new().evaluate(loader)["loss"]
        after = case.fit(case.epochs).evaluate(loader)["loss"]
        assert after < case.bar * before


def same(one: torch.Tensor | rr.Jagged, other: torch.Tensor | rr.Jagged) -> bool:
    """Whether two columns hold the same values, NaN included."""
    if isinstance(one, rr.Jagged):
        weights = [lists.weights for lists in (one, other) if lists.weights is not None]
        alike = torch.equal(weights[0], weights[-1]) if weights else True
        return (
            alike
            and len(weights) != 1
            and torch.equal(one.values, other.values)
            and torch.equal(one.offsets, other.offsets)
        )
    return torch.equal(torch.nan_to_num(one, 12345), torch.nan_to_num(other, 12345))


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    states = one.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


@dataclass(frozen=True)
class LossCase:
    """A module, and a loss that it takes part in; `leaves` are the columns that gradients flow to."""

    build: Callable[[], torch.nn.Module]
    loss: Callable[[Any, rr.Batch], torch.Tensor]
    examples: rr.Batch
    leaves: tuple[str, ...]


class LossConformance:
    """What all that makes a loss of a batch must do: tasks, corrections of scores, and the scorer with its samplers."""

    def loss(self, case, module, examples, seed=0):
        torch.manual_seed(seed)
        return case.loss(module, examples)

    def test_config_round_trip(self, case):
        config = json.loads(json.dumps(rr.core.to_config(case.build())))
        again = rr.core.from_config(config)
        assert rr.core.to_config(again) == config
        assert torch.equal(self.loss(case, again, case.examples), self.loss(case, case.build(), case.examples))

    def test_saved_it_goes_on_where_it_was(self, case, tmp_path):
        module, loaded, again = case.build(), case.build(), case.build()
        self.loss(case, module, case.examples[:4])
        rr.training.save_weights(tmp_path / "weights", module)
        rr.training.load_weights(tmp_path / "weights", loaded)
        again.load_state_dict(module.state_dict())
        following = self.loss(case, module, case.examples, seed=1)
        for other in (loaded, again):
            assert torch.equal(self.loss(case, other, case.examples, seed=1), following)

    @pytest.mark.parametrize("num_rows", [1, 6])
    def test_the_loss_is_a_finite_scalar_with_gradients(self, case, num_rows):
        leaves = {name: case.examples[name].clone().requires_grad_() for name in case.leaves}
        loss = self.loss(case, case.build(), case.examples.merge(leaves)[:num_rows])
        assert loss.shape == ()
        assert loss.isfinite()
        for gradient in torch.autograd.grad(loss, list(leaves.values())):
            assert gradient.isfinite().all()

    def test_no_rows_have_no_loss(self, case):
        assert self.loss(case, case.build(), case.examples[:0]) == 0

    @pytest.mark.parametrize("value", [rr.core.schema.PADDING_ID, rr.core.schema.UNKNOWN_ID])
    def test_unknown_and_missing_ids_have_a_finite_loss(self, case, value):
        assert self.loss(case, case.build(), with_ids(case.examples, value)).isfinite()

    def test_a_seed_decides_everything(self, case):
        modules = case.build(), case.build()
        for seed in range(3):
            one, other = (self.loss(case, module, case.examples, seed) for module in modules)
            assert torch.equal(one, other)

    @pytest.mark.parametrize("device", DEVICES)
    def test_it_moves_to_a_device(self, case, device):
        module = case.build().to(device)
        for _ in range(2):
            loss = self.loss(case, module, case.examples.to(device))
            assert loss.device.type == device
            assert loss.isfinite()


class TaskConformance(LossConformance):
    """What every task must do."""

    def test_metrics_are_counted_forgotten_saved_and_restored(self, case):
        task, again = case.build(), case.build()
        task.reset()  # a metric of the case may have been used before
        assert task.results() == {}
        self.loss(case, task, case.examples)
        results = task.results()
        assert results
        again.load_metrics_state_dict(task.metrics_state_dict())
        assert {name: float(value) for name, value in again.results().items()} == {
            name: float(value) for name, value in results.items()
        }
        task.reset()
        assert task.results() == {}


@dataclass(frozen=True)
class FeatureCase:
    """A kind of feature, a column it can learn from, and a value it has not seen; or a cross of `own` and `other`."""

    build: Callable[[], rr.features.Feature | rr.features.Cross]
    values: list[Any]
    new: Any


class FeatureConformance:
    """What every kind of feature must do."""

    def unfitted(self, case):
        kind = case.build()
        if isinstance(kind, rr.features.Cross):
            columns = {"own": "x", "other": "flat"}
            kinds = {name: rr.features.Categorical(column=column) for name, column in columns.items()}
            return rr.FeatureSpace(kinds, crosses=[kind])
        if isinstance(kind, rr.features.Recent | rr.features.Seen):
            return rr.FeatureSpace({"key": rr.features.Categorical(column="flat"), "x": kind})
        return rr.FeatureSpace({"x": kind})

    def space(self, case):
        return self.unfitted(case).fit(self.table(case, case.values))

    def table(self, case, values):
        flat = [value[0] if isinstance(value, list) and value else "a" for value in values]
        dtype = pl.Series(case.values).dtype
        return pl.DataFrame({"x": pl.Series(values, dtype=dtype), "flat": pl.Series(flat, dtype=pl.Series(flat).dtype)})

    def test_config_round_trip(self, case):
        kind = case.build()
        if isinstance(kind, rr.features.Cross):
            content = json.loads(json.dumps(kind.to_json()))
            assert rr.features.Cross.from_json(content).to_json() == content
        else:
            config = json.loads(json.dumps(rr.core.to_config(kind)))
            assert rr.core.to_config(rr.core.from_config(config)) == config

    def test_saved_and_loaded_it_emits_the_same(self, case, tmp_path):
        space, table = self.space(case), self.table(case, [*case.values, case.new])
        space.save(tmp_path / "space")
        again = rr.FeatureSpace.load(tmp_path / "space")
        assert again.schema == space.schema
        assert same(again.transform(table, features=["x"])["x"], space.transform(table, features=["x"])["x"])

    def test_the_schema_is_what_it_emits(self, case):
        space = self.space(case)
        schema = space.schema["x"]
        column = space.transform(self.table(case, [*case.values, case.new]), features=["x"])["x"]
        assert isinstance(column, rr.Jagged) == schema.is_jagged
        values = column.values if schema.is_jagged else column
        if schema.kind == "ids":
            assert values.dtype == torch.int64
            assert ((values > rr.core.schema.PADDING_ID) & (values < schema.num_ids)).all()
        else:
            assert values.dtype == torch.float32
            assert values.isfinite().all()

    def test_a_row_alone_is_what_it_is_among_others(self, case):
        space, table = self.space(case), self.table(case, case.values)
        whole = space.transform(table, features=["x"])["x"]
        for row in range(len(table)):
            assert same(space.transform(table[row : row + 1], features=["x"])["x"], whole[row : row + 1])
        empty = space.transform(table[:0], features=["x"])["x"]
        assert len(empty) == 0
        assert isinstance(empty, rr.Jagged) == isinstance(whole, rr.Jagged)

    def test_the_same_table_teaches_the_same(self, case):
        table = self.table(case, [*case.values, case.new])
        one, other = (self.space(case).transform(table, features=["x"])["x"] for _ in range(2))
        assert same(one, other)

    @pytest.mark.parametrize("device", DEVICES)
    def test_a_loader_brings_it_to_a_device(self, case, device):
        space, table = self.space(case), self.table(case, case.values)
        batches = list(space.loader(table, batch_size=4, features=["x"], device=device))
        assert all(batch.device.type == device for batch in batches)
        whole = rr.Batch.concat([batch.to("cpu") for batch in batches])
        assert same(whole["x"], space.transform(table, features=["x"])["x"])

    def test_parts_teach_what_the_whole_does(self, case):
        space, table = self.space(case), self.table(case, case.values)
        summaries = [space.summarize(table, shard=(rank, 3)) for rank in range(3)]
        parts = self.unfitted(case).fit_summaries(summaries)
        assert parts.schema == space.schema
        assert same(parts.transform(table, features=["x"])["x"], space.transform(table, features=["x"])["x"])


@dataclass(frozen=True)
class IndexCase:
    """How to build an index from embeddings `(num_candidates, dim)` and keys, on the device of the embeddings.

    An index that is not exact must find the best here all the same; only where they tie may it prefer others.
    """

    build: Callable[[torch.Tensor, Any], rr.index.Index]
    is_exact: bool = True


class IndexConformance:
    """What every index must do; a brute force in NumPy judges it."""

    rng = np.random.default_rng(7)
    corpus = rng.integers(-4, 5, size=(40, 6)).astype(np.float32)  # small integers: exact scores, and ties
    queries = rng.integers(-4, 5, size=(9, 6)).astype(np.float32)

    def expected(self, exclude, k):
        scores = self.queries @ self.corpus.T
        for row, ids in enumerate(exclude):
            scores[row, ids] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(scores, order, axis=1)
        return best, np.where(best == -np.inf, -1, order)

    def index(self, case, keys=None, device="cpu"):
        return case.build(torch.from_numpy(self.corpus).to(device), keys)

    def judge(self, case, result, exclude, k):
        scores, ids = self.expected(exclude, k)
        np.testing.assert_array_equal(result.scores.cpu().numpy(), scores)
        found = result.rows.cpu().numpy()
        if case.is_exact:
            np.testing.assert_array_equal(found, ids)
            return
        np.testing.assert_array_equal(found < 0, ids < 0)
        true = np.take_along_axis(self.queries @ self.corpus.T, found.clip(0), axis=1)
        np.testing.assert_array_equal(np.where(found < 0, -np.inf, true), scores)
        for row, (left_out, chosen) in enumerate(zip(exclude, found, strict=True)):
            chosen = chosen[chosen >= 0].tolist()
            assert len(set(chosen)) == len(chosen), row
            assert not set(chosen) & set(left_out), row

    @pytest.mark.parametrize("k", [1, 5, 40])
    @pytest.mark.parametrize("longest", [0, 39, 40])
    def test_results_are_those_of_brute_force(self, case, k, longest):
        rng = np.random.default_rng(longest)
        exclude = [rng.permutation(40)[: longest * (row % 2)] for row in range(9)]
        index = self.index(case)
        assert index.is_exact == case.is_exact
        result = index.search_rows(
            torch.from_numpy(self.queries), k, exclude=rr.Jagged.from_lists([ids.tolist() for ids in exclude])
        )
        self.judge(case, result, exclude, k)

    @pytest.mark.parametrize("device", DEVICES)
    def test_it_searches_on_a_device(self, case, device):
        index, queries = self.index(case, device=device), torch.from_numpy(self.queries).to(device)
        result = index.search_rows(queries, 5)
        assert result.scores.device.type == result.rows.device.type == device
        self.judge(case, result, [[] for _ in self.queries], 5)

    def test_two_of_the_same_candidates_find_the_same(self, case):
        one, other = (self.index(case).search_rows(torch.from_numpy(self.queries), 9) for _ in range(2))
        assert torch.equal(one.rows, other.rows)
        assert torch.equal(one.scores, other.scores)

    @pytest.mark.parametrize(("keys", "unknown"), [([f"k{i}" for i in range(40)], "k40"), (list(range(40)), 40)])
    def test_unknown_keys_and_rows_are_told_apart(self, case, keys, unknown):
        index = self.index(case, keys)
        assert index.rows([keys[7], unknown, keys[7]]).tolist() == [7, -1, 7]
        for row in (-1, 40):
            with pytest.raises(rr.errors.DataError, match=str(row)):
                index.search_rows(torch.from_numpy(self.queries[:1]), 1, exclude=rr.Jagged.from_lists([[row]]))

    def test_a_query_alone_and_no_query(self, case):
        index, queries = self.index(case), torch.from_numpy(self.queries)
        whole = index.search_rows(queries, 5)
        for row in range(len(queries)):
            alone = index.search_rows(queries[row : row + 1], 5)
            assert torch.equal(alone.rows, whole.rows[row : row + 1])
        assert index.search_rows(queries[:0], 5).rows.shape == (0, 5)

    def test_a_mask_and_a_list_of_rows_allow_the_same(self, case):
        mask = torch.arange(40) % 3 > 0
        allowed = rr.Jagged.from_lists([mask.nonzero()[:, 0].tolist()])
        index, queries = self.index(case), torch.from_numpy(self.queries)
        by_mask, by_rows = (index.search_rows(queries, 9, allow=allow) for allow in (mask, allowed))
        self.judge(case, by_mask, [np.arange(0, 40, 3)] * len(queries), 9)
        assert torch.equal(by_mask.scores, by_rows.scores)

    def test_a_change_makes_another_index(self, case):
        index, queries = self.index(case), torch.from_numpy(self.queries)
        before, new = index.search_rows(queries, 40), torch.full((1, 6), 2.0)
        for change in (lambda: index.with_added(new, [40]), lambda: index.with_updated(new, [3])):
            try:
                other = change()
            except rr.errors.ConfigError:
                continue  # not every kind can
            scores = other.search_rows(new, other.num_candidates).scores
            assert (scores == 24).any()
            assert other is not index
        after = index.search_rows(queries, 40)
        assert all(map(torch.equal, after, before))

    def test_rebuilt_it_is_an_index_of_its_kind_over_the_others(self, case):
        index, others, keys = self.index(case), torch.from_numpy(np.negative(self.corpus)), list(range(50, 90))
        try:
            rebuilt = index.rebuilt(others, keys)
        except rr.errors.ConfigError:
            return  # not every kind can
        queries = torch.from_numpy(self.queries)
        found, expected = rebuilt.search(queries, 7), case.build(others, keys).search(queries, 7)
        assert torch.equal(found.scores, expected.scores)
        assert np.array_equal(np.asarray(found.keys), np.asarray(expected.keys))
        assert index.num_candidates == 40
        assert index.rows([50]).tolist() == [-1]

    @pytest.mark.parametrize("keys", [[f"k{i}" for i in range(40)], list(range(100, 140))])
    def test_saved_and_loaded_it_finds_the_same(self, case, keys, tmp_path):
        index, queries = self.index(case, keys), torch.from_numpy(self.queries)
        index.save(tmp_path / "index")
        again = type(index).load(tmp_path / "index")
        assert again.num_candidates == index.num_candidates == 40
        one, other = index.search(queries, 7), again.search(queries, 7)
        assert torch.equal(one.scores, other.scores)
        assert np.array_equal(np.asarray(one.keys), np.asarray(other.keys))
        best = self.expected([[] for _ in self.queries], 1)[1][:, 0]
        assert list(np.asarray(one.keys)[:, 0]) == [keys[row] for row in best]

    @pytest.mark.parametrize("k", [0, 41])
    def test_k_is_at_most_the_number_of_candidates(self, case, k):
        with pytest.raises(rr.errors.ConfigError, match="40"):
            self.index(case).search_rows(torch.from_numpy(self.queries), k)


@dataclass(frozen=True)
class SamplerCase:
    """A sampler of ids below 20."""

    build: Callable[[], rr.sampling.Sampler]


class SamplerConformance:
    """What every sampler must do."""

    ids = torch.tensor([5, 9, 5, 1, 19])

    def draw(self, sampler, ids=None, seed=0):
        torch.manual_seed(seed)
        ids = self.ids if ids is None else ids
        torch.nn.init.normal_((table := rr.EmbeddingTable(20, 4)).weight)
        table.to(ids.device)
        return table, sampler(ids, table(ids), table=table, training=True)

    def checked(self, negatives, device="cpu"):
        ids = negatives.ids
        assert ids.dtype == torch.int64
        assert ((ids >= 0) & (ids < 20)).all()
        assert torch.equal(negatives.valid, ids >= rr.core.schema.NUM_SPECIAL_IDS)
        assert negatives.embeddings.shape == (len(ids), 4)
        assert ids.device.type == negatives.embeddings.device.type == device
        if negatives.log_q is not None:
            assert negatives.log_q.shape == ids.shape
            assert negatives.log_q.isfinite().all()
            assert negatives.log_q.device.type == device
        return negatives

    def test_config_round_trip(self, case):
        config = json.loads(json.dumps(rr.core.to_config(case.build())))
        again = rr.core.from_config(config)
        assert rr.core.to_config(again) == config
        assert same_draw(self.draw(again)[1], self.draw(case.build())[1])

    def test_saved_it_goes_on_where_it_was(self, case, tmp_path):
        sampler, again, loaded = case.build(), case.build(), case.build()
        self.draw(sampler)
        again.load_state_dict(sampler.state_dict())
        rr.training.save_weights(tmp_path / "sampler", sampler)
        rr.training.load_weights(tmp_path / "sampler", loaded)
        following = self.draw(sampler, seed=1)[1]
        for other in (again, loaded):
            assert same_draw(self.draw(other, seed=1)[1], following)

    @pytest.mark.parametrize("num_rows", [0, 1, 5])
    def test_negatives_are_ids_with_their_embeddings_and_probabilities(self, case, num_rows):
        sampler = case.build()
        self.draw(sampler)
        self.checked(self.draw(sampler, self.ids[:num_rows])[1])

    @pytest.mark.parametrize("value", [rr.core.schema.PADDING_ID, rr.core.schema.UNKNOWN_ID])
    def test_unknown_and_missing_positives_are_no_candidates(self, case, value):
        sampler = case.build()
        for _ in range(2):
            negatives = self.checked(self.draw(sampler, torch.full((5,), value))[1])
        assert not negatives.valid[negatives.ids == value].any()
        drawn = negatives.ids[negatives.valid]
        assert torch.equal(drawn, drawn.clamp(min=rr.core.schema.NUM_SPECIAL_IDS))

    def test_a_step_without_training_leaves_no_trace(self, case):
        sampler = case.build()
        self.draw(sampler)
        before = copy.deepcopy(sampler.state_dict())
        table = rr.EmbeddingTable(20, 4)
        sampler(self.ids, table(self.ids), table=table)
        assert all(torch.equal(value, before[name]) for name, value in sampler.state_dict().items())

    def test_a_seed_decides_what_is_drawn(self, case):
        samplers = case.build(), case.build()
        for seed in range(3):
            one, other = (self.draw(sampler, seed=seed)[1] for sampler in samplers)
            assert same_draw(one, other)

    @pytest.mark.parametrize("device", DEVICES)
    def test_it_moves_to_a_device(self, case, device):
        sampler = case.build().to(device)
        for _ in range(2):
            self.checked(self.draw(sampler, self.ids.to(device))[1], device)

    def test_ids_of_another_shape_are_refused(self, case):
        with pytest.raises(rr.errors.ShapeError, match="int64 ids"):
            case.build()(torch.zeros(2, 2, dtype=torch.int64))


def same_draw(one: rr.sampling.Negatives, other: rr.sampling.Negatives) -> bool:
    """Whether two draws hold the same ids with the same probabilities."""
    if (one.log_q is None) != (other.log_q is None) or not torch.equal(one.ids, other.ids):
        return False
    return one.log_q is None or torch.equal(one.log_q, other.log_q)
