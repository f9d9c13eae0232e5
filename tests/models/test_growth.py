"""Models grow with their feature space: what they knew they still know, and new keys are learned like any other."""

import copy

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import retrank as rr
from retrank.core.errors import ConfigError, DataError
from retrank.models.candidate_frequencies import log_frequencies

KINDS = rr.features.Categorical, rr.features.CategoricalList, rr.features.Recent


def plays(num_users, num_songs, rows=200, seed=0):
    rng = np.random.default_rng(seed)
    user, song = rng.integers(num_users, size=rows), rng.integers(num_songs, size=rows)
    table = pl.DataFrame(
        {"user": user, "song": [f"s{i}" for i in song], "time": np.sort(rng.integers(0, 10**6, rows))}
    ).with_columns(
        tags=pl.Series([[f"t{i % 3}", f"t{i % num_songs}"] for i in song]),
        age=20.0 + pl.col("user"),
        label=(pl.col("user") % 2).cast(pl.Float32),
    )
    return rr.data.with_recent_candidates(table, query="user", candidate="song", time="time", length=3)


OLD, NEW = plays(10, 12), plays(14, 20, seed=1)


def make_space():
    categorical, lists, recent = KINDS
    features = {"user": categorical(), "song": categorical(), "tags": lists(), "recent": recent("song")}
    numbers = {"age": rr.features.Passthrough(), "label": rr.features.Passthrough()}
    return rr.FeatureSpace(features | numbers).fit(OLD)


def catalogue(space, table):
    return space.catalogue(table.select("song", "tags").unique("song", maintain_order=True), key="song")


def tables(space, dim=4, *, shared=False, unified=False):
    names = ["user", "song", "tags"]
    if unified:
        return rr.embeddings.UnifiedEmbedding(dict.fromkeys(names, 1), buckets_per_table=30, dim_per_table=dim)
    made = {name: rr.EmbeddingTable(space.schema[name], dim) for name in names}
    return rr.EmbeddingCollection(made | ({"recent": "song"} if shared else {}))


def two_tower(space, negatives="in_batch", log_q=True, tied=False):
    residual = {"residual": "recent"} if tied else {}
    return rr.models.TwoTower(
        rr.models.Tower(space, ["user", "age"], layers=[8], dim=4, **residual),
        rr.models.Tower(space, ["song", "tags"], layers=[8], dim=4, **({"residual": "song"} if tied else {})),
        rr.tasks.Retrieval(log_q=log_q, metrics=[rr.metrics.FullCorpusTopK(ks=(5,))]),
        catalogue=catalogue(space, OLD),
        negatives=negatives,
        tie_residuals=tied,
    )


def factorization(space, **arguments):
    return rr.models.MatrixFactorization(
        space.schema["user"], space.schema["song"], rr.tasks.Retrieval(log_q=True), dim=4, space=space, **arguments
    )


def counts(space):
    return space.vocabulary("song").counts


def multitask(space):
    return rr.models.MultiTaskRanking(tables(space), {"label": rr.tasks.Ranking()}, dense_features=["age"])


RETRIEVAL = {
    "two-tower": two_tower,
    "two-tower, tied": lambda space: two_tower(space, tied=True),
    "two-tower, catalogue": lambda space: two_tower(space, "catalogue", log_q=False),
    "two-tower, sampled": lambda space: two_tower(space, rr.sampling.Popularity(6, counts=counts(space))),
    "two-tower, mixed": lambda space: two_tower(
        space,
        rr.sampling.Mixed(
            [rr.sampling.InBatch(counts=counts(space)), rr.sampling.Uniform(4, num_ids=len(counts(space)) + 2)]
        ),
    ),
    "factorization": factorization,
    "factorization with candidates": lambda space: factorization(space, catalogue=catalogue(space, OLD)),
}
RANKING = {
    "dlrm": lambda space: rr.models.Ranking(tables(space, shared=True), dense_features=["age"]),
    "unified": lambda space: rr.models.Ranking(tables(space, unified=True)),
    "deepfm": lambda space: rr.models.deepfm(tables(space), layers=[8]),
    "multi-task": multitask,
    "task score": lambda space: rr.models.TaskScore(multitask(space), "label"),
}
MODELS = RETRIEVAL | RANKING


def batches(space, table, model):
    names = [name for name in model.features if name in space.names]
    return rr.data.Loader(space.transform(table, features=list(dict.fromkeys([*names, "label"]))), batch_size=64)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_old_rows_keep_their_scores_and_new_ones_are_learned(name, in_place):
    space = make_space()
    torch.manual_seed(0)
    model = MODELS[name](space)
    fit = {"optimizer": rr.optim.LazyAdam(0.01), "epochs": 1, "progress": False}
    model.fit(batches(space, OLD, model), **fit)
    rows = space.transform(OLD, features=list(model.features))
    with torch.no_grad():
        before = model.eval()(rows)
    grown = space.grow(NEW) if in_place else space.grown(NEW)
    takes = any(hasattr(part, "catalogue") for part in model.modules())
    model.grow(grown, catalogue(grown, NEW) if takes else None)
    with torch.no_grad():
        assert torch.equal(model(rows), before)
    model.fit(batches(grown, NEW, model), **fit)
    values = model.evaluate(batches(grown, NEW, model))
    assert np.isfinite(values["loss"])
    again = rr.core.from_config(rr.core.to_config(model), space=grown, catalogue=getattr(model, "catalogue", None))
    again.load_state_dict(model.state_dict())
    new = grown.transform(NEW, features=list(model.features))
    with torch.no_grad():
        assert torch.equal(again.eval()(new), model.eval()(new))
    assert again.evaluate(batches(grown, NEW, model)) == values


@pytest.mark.parametrize("name", ["two-tower", "factorization"])
def test_a_space_that_grew_in_place_is_followed_where_tables_are_grown_by_hand(name):
    space = make_space()
    model = RETRIEVAL[name](space)
    space.grow(NEW)
    for table in (part for part in model.modules() if isinstance(part, rr.EmbeddingTable)):
        table.grow(space.schema[table.column].num_ids)
    loss = model.compute_loss(space.transform(NEW, features=list(model.features)), training=True)
    assert loss.isfinite()
    assert torch.equal(model.log_q, log_frequencies(counts(space), space.schema["song"].num_ids))


def test_frequencies_are_those_of_the_grown_space():
    space = make_space()
    model = factorization(space)
    model.grow(space.grown(NEW))
    total = pl.concat([OLD, NEW])["song"].value_counts()
    shares = dict(zip(total["song"], total["count"] / (len(OLD) + len(NEW)), strict=True))
    keys = model.frequencies.space.vocabulary("song").keys.to_list()
    assert model.log_q[2:].exp().tolist() == pytest.approx([shares[key] for key in keys])
    model.use_counts([1] * len(keys))
    assert model.log_q.exp().tolist() == pytest.approx([1 / len(keys)] * (len(keys) + 2))


def test_samplers_draw_new_candidates_and_know_how_often():
    popularity = rr.sampling.Popularity(3, counts=[5, 1, 1, 1])
    popularity(torch.tensor([2]))
    popularity.grow([1, 1, 1, 1, 96])
    drawn = popularity(torch.tensor([2]))
    assert 6 in drawn.ids
    assert popularity.config["counts"] == [1, 1, 1, 1, 96]
    uniform = rr.sampling.Uniform(5, num_ids=7)
    uniform.grow([1] * 8)
    assert set().union(*(uniform(torch.tensor([2])).ids.tolist() for _ in range(50))) == set(range(2, 10))
    assert rr.core.from_config(rr.core.to_config(uniform)).num_ids == 10
    queue = rr.sampling.CrossBatch(4, counts=[1, 1])
    queue(torch.tensor([2, 3]), torch.ones(2, 3), training=True)
    queue.grow([1, 1, 2])
    assert queue(torch.tensor([4]), torch.ones(1, 3)).log_q.exp().tolist() == pytest.approx([0.5, 0.5])
    unsized = rr.sampling.Uniform(2)
    unsized.grow([1, 1, 1])
    assert unsized.num_ids is None


def test_a_reranker_grows_and_new_candidates_occur_with_nothing():
    space = make_space()
    old = catalogue(space, OLD)
    model = rr.models.Reranker(space, ["user", "tags"], candidate_id="song", catalogue=old, recent="recent")
    model.co_occurrence.fit(rr.Jagged.from_lists([[2, 3], [2, 3, 4]]))
    recent, candidates = rr.Jagged.from_lists([[2]] * 3), torch.tensor([2, 3, 4])
    before = model.co_occurrence(recent, candidates)
    grown = space.grown(NEW)
    model.grow(grown, catalogue(grown, NEW))
    num_ids = grown.schema["song"].num_ids
    assert torch.equal(model.co_occurrence(recent, candidates), before)
    new = torch.arange(space.schema["song"].num_ids, num_ids)
    lists = rr.Jagged.from_lists([[2]] * len(new))
    assert not model.co_occurrence(lists, new).any()
    model.co_occurrence.fit(rr.Jagged.from_lists([[2, num_ids - 1]]))
    assert model.co_occurrence(rr.Jagged.from_lists([[2]]), torch.tensor([num_ids - 1])).max() == 1
    assert model.embeddings["user"].num_ids == grown.schema["user"].num_ids
    assert len(model.catalogue) == NEW["song"].n_unique()
    again = rr.core.from_config(rr.core.to_config(model), space=grown, catalogue=model.catalogue)
    again.load_state_dict(model.state_dict())
    with pytest.raises(ConfigError, match="at least"):
        model.co_occurrence.grow(num_ids - 1)


class Own(rr.Model):
    """Tables known by their schema, and by their name."""

    def __init__(self, space, name):
        super().__init__()
        self.song = rr.EmbeddingTable(space.schema["song"], 3, name="anything")
        self.parts = nn.ModuleDict({"inner": rr.EmbeddingTable(space.schema["user"].num_ids, 3, name=name)})

    def compute_loss(self, batch, training=False):
        return (self.song(batch["song"]) * self.parts["inner"](batch["user"])).sum(dim=1).mean()


def test_tables_of_a_model_of_ones_own_grow_by_schema_or_name():
    space = make_space()
    model = Own(space, "user")
    model.grow(space.grow(NEW))
    assert model.compute_loss(space.transform(NEW, features=["user", "song"])).isfinite()
    with pytest.raises(ConfigError, match="'elsewhere'"):
        Own(space, "elsewhere").grow(space)
    with pytest.raises(ConfigError, match="knows no candidates"):
        model.grow(space, catalogue(space, NEW))


def test_another_space_is_refused_before_anything_grows():
    space = make_space()
    model = two_tower(space)
    other = rr.FeatureSpace(space.features).fit(NEW)
    sizes = [table.num_ids for table in model.modules() if isinstance(table, rr.EmbeddingTable)]
    with pytest.raises(ConfigError, match="have other ids"):
        model.grow(other)
    assert sizes == [table.num_ids for table in model.modules() if isinstance(table, rr.EmbeddingTable)]


def test_what_cannot_grow_says_so():
    space = make_space()
    grown = space.grown(NEW)
    with pytest.raises(ConfigError, match="quantize"):
        rr.embeddings.quantized(two_tower(space)).grow(grown)
    with pytest.raises(ConfigError, match="'film'"):
        rr.EmbeddingCollection({"film": rr.EmbeddingTable(5, 2)}).grow(grown.schema)

    class OneHot(rr.embeddings.Embeddings):
        features, dims = ("user",), {"user": 2}

        def forward(self, batch):
            return {"user": batch["user"][:, None].float().expand(-1, 2)}

    with pytest.raises(ConfigError, match="without grow"):
        OneHot().grow(grown.schema)


def test_a_catalogue_of_a_larger_space_is_refused_until_the_model_grows():
    space = make_space()
    model = factorization(space, catalogue=catalogue(space, OLD))
    grown = space.grown(NEW)
    with pytest.raises(DataError, match=r"catalogue, row \d+: expected ids of 'song' below"):
        model.use_catalogue(catalogue(grown, NEW))
    model.grow(grown)
    assert len(model.catalogue) == OLD["song"].n_unique()
    model.use_catalogue(catalogue(grown, NEW))


def test_grown_leaves_the_space_as_it_is_and_takes_a_frozen_one():
    space = make_space()
    frozen = space.frozen()
    grown = frozen.grown(NEW)
    assert frozen.schema["song"] == space.schema["song"] != grown.schema["song"]
    grown.grow(NEW)  # the grown one is not frozen
    with pytest.raises(ConfigError, match="frozen"):
        frozen.grow(NEW)


@settings(max_examples=25)
@given(st.lists(st.integers(2, 30), min_size=1, max_size=4), st.integers(0, 100))
def test_growing_step_by_step_keeps_every_vector(sizes, seed):
    torch.manual_seed(seed)
    space = make_space()
    model = two_tower(space, tied=True)
    states = []
    for place, size in enumerate(sizes):
        states.append(copy.deepcopy(model.state_dict()))
        model.grow(space.grow(plays(size, size, seed=place + seed)))
    for state in states:
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor[: len(state[name])], state[name])
    assert model.query.residual is model.candidate.residual
