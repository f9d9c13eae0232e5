"""A query's other positives that are in the batch are no negatives of a ready-made model."""

import polars as pl
import pytest
import torch
from torch.nn.functional import cross_entropy

import retrank as rr

VIEWS = pl.DataFrame(
    {
        "user": ["u", "u", "v", "w", "x", "new", "other"],
        "song": ["a", "b", "b", "c", "d", "e", "f"],
        "liked": [["a", "b"], ["a", "b"], ["b", "c"], ["c", "gone"], ["d", "a", "b", "c"], [], []],
    }
)
SPACE = rr.FeatureSpace(
    {"user": rr.features.Categorical(), "song": rr.features.Categorical(), "liked": rr.features.Recent("song")}
).fit(VIEWS[:5].vstack(VIEWS[5:].with_columns(user=pl.lit("u"))))  # "new" and "other" are unknown
BATCH = SPACE.transform(VIEWS)
IN_BATCH = {(0, 1), (0, 2), (1, 0), (1, 2), (2, 1)}  # the first user's songs, and the second user's once more
LISTED = IN_BATCH | {(2, 3), (4, 0), (4, 1), (4, 2), (4, 3)}


def build(negatives, task=None):
    torch.manual_seed(0)
    schema = SPACE.schema
    tower = rr.models.TwoTower(
        rr.models.Tower(SPACE, ["user"], layers=[8]),
        rr.models.Tower(SPACE, ["song"], layers=[8]),
        task or rr.tasks.Retrieval(),
        negatives=negatives,
    )
    factors = rr.models.MatrixFactorization(
        schema["user"], schema["song"], task or rr.tasks.Retrieval(), dim=8, negatives=negatives
    )
    for model in (tower, factors):
        for weight in model.embedding_parameters:
            weight.data[1:].normal_(generator=rr.core.generator(4, weight.shape[1]))
    return tower, factors


@pytest.mark.parametrize(("option", "removed"), [(False, set()), (True, IN_BATCH), ("liked", LISTED)])
def test_the_loss_is_the_softmax_over_the_others(option, removed):
    for model in build(rr.models.InBatchNegatives(remove_known_positives=option)):
        scores = model.embed_queries(BATCH) @ model.embed_candidates(BATCH).T
        for row, column in removed:
            scores[row, column] = -torch.inf
        expected = cross_entropy(scores, torch.arange(len(VIEWS)))
        for training in (False, True):
            torch.testing.assert_close(model.compute_loss(BATCH, training=training), expected)


def test_what_is_removed_gets_no_gradient_of_the_query():
    _, model = build(rr.models.InBatchNegatives(remove_known_positives=True))
    rows = BATCH[:2]  # one user with two songs: nothing is left to tell apart
    loss = model.compute_loss(rows, training=True)
    loss.backward()
    assert loss.item() == 0
    assert all(not parameter.grad.to_dense().any() for parameter in model.embedding_parameters)


def test_it_goes_with_the_other_corrections_and_through_fit():
    task = rr.tasks.Retrieval(log_q=True, temperature=0.5, remove_accidental_hits=True)
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(SPACE, ["user"]), rr.models.Tower(SPACE, ["song"]), task,
        negatives=rr.models.InBatchNegatives(remove_known_positives="liked"),
    )  # fmt: skip
    again = rr.core.from_config(rr.core.to_config(model), space=SPACE)
    assert again.negatives == model.negatives
    loader = SPACE.loader(VIEWS, 7)
    history = model.fit(loader, optimizer=rr.optim.LazyAdam(0.005), epochs=9, validation=loader, progress=False)
    assert history["loss"][-1] < history["loss"][0]


def test_what_the_batches_lack_is_named():
    tower, _ = build(rr.models.InBatchNegatives(remove_known_positives="friends"))
    with pytest.raises(rr.errors.DataError, match="'friends'"):
        tower.compute_loss(BATCH, training=True)
    tower, _ = build(rr.models.InBatchNegatives(remove_known_positives="song"))
    with pytest.raises(rr.errors.ConfigError, match=r"a column of lists of ids.*'song', torch.int64 of shape \(7,\)"):
        tower.compute_loss(BATCH, training=True)
    model = rr.models.TwoTower(
        rr.models.Tower(SPACE, ["liked"], layers=[8]), rr.models.Tower(SPACE, ["song"], layers=[8]),
        rr.tasks.Retrieval(), negatives=rr.models.InBatchNegatives(remove_known_positives=True),
    )  # fmt: skip
    with pytest.raises(rr.errors.ConfigError, match=r"query_id with one id per row.*'liked', lists of"):
        model.compute_loss(BATCH, training=True)
    with pytest.raises(rr.errors.ConfigError, match="True, False or the name of a column"):
        rr.models.InBatchNegatives(remove_known_positives=1)
