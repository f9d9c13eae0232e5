"""The default penalty of ranking models is that of a penalised logistic regression, and does what it is for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import retrank as rr

NUM_IDS = 7


def rows(ids, lists):
    """Rows of an id, a list of ids, and an id of the lists' table."""
    return rr.Batch(
        {
            "a": torch.tensor(ids),
            "b": rr.Jagged.from_lists(lists),
            "c": torch.tensor(ids[::-1]),
            "label": torch.zeros(len(ids)),
        }
    )


def embeddings(**l2):
    tables = {name: rr.EmbeddingTable(NUM_IDS, 2, scale=1.0, l2=l2.get(name, 0.0)) for name in ("a", "b")}
    return rr.EmbeddingCollection({**tables, "c": "b"})


def measured(model, data, batch_size):
    """Sum the penalty of an epoch over its rows, as training sees it."""
    loader = rr.data.Loader(data, batch_size)
    model.begin_fit(iter(loader))
    return sum(
        model.compute_losses(batch, training=True)["regularization_loss"].item() * len(batch) for batch in loader
    )


def norms(table, *columns):
    values = [column.values if isinstance(column, rr.Jagged) else column for column in columns]
    return sum(table.weight[number].square().sum().item() for number in torch.cat(values).unique())


ID = st.integers(1, NUM_IDS - 1)
ROWS = st.lists(st.tuples(ID, st.lists(ID, max_size=3)), min_size=1, max_size=9)


@given(table=ROWS, batch_size=st.integers(1, 9), factor=st.sampled_from([0.0, 0.5, 3.0]))
def test_an_epoch_pays_for_each_id_once_whatever_the_batch_size(table, batch_size, factor):
    data = rows([number for number, _ in table], [numbers for _, numbers in table])
    model = rr.models.deepfm(embeddings(), layers=[4], id_l2=factor, linear_l2=2.0)
    torch.nn.init.normal_(model.linear.tables["a"].weight)
    expected = sum(
        l2 * (norms(tables["a"], data["a"]) + shared(tables["b"], data))
        for l2, tables in ((factor, model.embeddings), (2.0, model.linear.tables))
    )
    assert measured(model, data, batch_size) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("num_rows", [3, 600])
def test_few_rows_are_penalised_less_unless_a_factor_is_given(num_rows):
    data = rows([2] * num_rows, [[]] * num_rows)
    model = rr.models.dcn_v2(embeddings(), layers=[4])
    expected = num_rows / 100 * (norms(model.embeddings["a"], data["a"]) + shared(model.embeddings["b"], data))
    assert measured(model, data, num_rows) == pytest.approx(expected, rel=1e-4)
    model = rr.models.dcn_v2(embeddings(), layers=[4], id_l2=60.0)
    expected = 60 * (norms(model.embeddings["a"], data["a"]) + shared(model.embeddings["b"], data))
    assert measured(model, data, num_rows) == pytest.approx(expected, rel=1e-4)


def shared(table, data):
    return norms(table, data["b"], data["c"])


def test_tables_with_a_penalty_of_their_own_keep_it():
    data = rows([2, 2, 3], [[4], [], [4, 5]])
    model = rr.models.dcn_v2(embeddings(a=0.1), layers=[4], id_l2=2.0)
    own = 0.1 * model.embeddings["a"].weight[[2, 2, 3]].square().sum().item()
    assert measured(model, data, 3) == pytest.approx(own + 2 * shared(model.embeddings["b"], data), rel=1e-4)


def test_it_belongs_to_training_alone():
    data = rows([2, 2, 3], [[4], [], [4, 5]])
    model = rr.models.dcn_v2(embeddings(), layers=[4])
    loader = rr.data.Loader(data, 2, shuffle=True)
    assert model.compute_losses(data, training=True)["regularization_loss"] == 0  # nobody has counted
    history = model.fit(loader, optimizer=rr.optim.LazyAdam(), epochs=2, validation=loader, progress=False)
    assert min(history["regularization_loss"]) > 0
    assert history["val_regularization_loss"] == [0, 0]
    assert loader.state_dict() == {"epoch": 4, "batch": 0}  # two of them in validation: none is spent on counting
    assert model.compute_losses(data, training=True)["regularization_loss"] == 0


def test_without_a_factor_the_rows_are_not_read():
    class Never(rr.data.Loader):
        def __iter__(self):
            raise AssertionError

    model = rr.models.dcn_v2(embeddings(), layers=[4], id_l2=0)
    model.begin_fit(iter_of(Never))


def iter_of(kind):
    yield from kind(rows([2], [[3]]), 1)


def test_gradients_stay_row_sparse():
    data = rows([2, 2, 3], [[4], [], [4, 5]])
    model = rr.models.dcn_v2(embeddings(), layers=[4])
    model.begin_fit([data])
    model.compute_losses(data, training=True)["total_loss"].backward()
    for table in model.embedding_parameters:
        assert table.grad.is_sparse
    touched = model.embeddings["a"].weight.grad.coalesce().indices()[0].tolist()
    assert touched == [2, 3]


@pytest.mark.parametrize("name", ["id_l2", "linear_l2"])
@pytest.mark.parametrize("factor", [-1.0, float("inf"), float("nan")])
def test_a_factor_that_is_none_is_refused(name, factor):
    with pytest.raises(rr.errors.ConfigError, match=f"{name} >= 0"):
        rr.models.deepfm(embeddings(), **{name: factor})


def test_what_is_noise_about_rare_ids_is_not_learned():
    rng = np.random.default_rng(0)
    group, rare = rng.integers(2, 6, 6000), rng.integers(2, 3000, 6000)
    clicked = (rng.random(6000) < np.array([0.05, 0.1, 0.2, 0.4])[group - 2]).astype(np.float32)
    data = rr.Batch({"group": torch.tensor(group), "rare": torch.tensor(rare), "label": torch.tensor(clicked)})
    train, test = rr.data.Loader(data[:4000], 256, shuffle=True), rr.data.Loader(data[4000:], 1000)
    losses = {}
    for factor in (0.0, None):
        torch.manual_seed(0)
        tables = {"group": rr.EmbeddingTable(6, 8), "rare": rr.EmbeddingTable(3000, 8)}
        linear = {} if factor is None else {"linear_l2": factor}
        model = rr.models.deepfm(rr.EmbeddingCollection(tables), layers=[32], id_l2=factor, **linear)
        model.fit(train, epochs=20, device="cpu", progress=False)
        losses[factor] = model.evaluate(test)["loss"]
    assert losses[None] < losses[0.0] - 0.02
