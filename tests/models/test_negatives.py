"""Where the negatives of a retrieval model come from: sources, their short names, and a source of one's own."""

import pytest
import torch
from tests.models.worlds import movies, space, two_tower, views

import retrank as rr

SPACE = space()
CATALOGUE = SPACE.catalogue(movies(), key="movie_id")
BATCH = SPACE.transform(views(16, seed=3))
NAMED = {"in_batch": rr.models.InBatchNegatives(), "catalogue": rr.models.CatalogueNegatives()}


@pytest.mark.parametrize("name", NAMED)
def test_a_short_name_means_the_class_of_that_name(name):
    short, long = (two_tower(SPACE, catalogue=CATALOGUE, negatives=negatives) for negatives in (name, NAMED[name]))
    assert short.negatives == long.negatives == NAMED[name]
    assert torch.equal(short.compute_loss(BATCH, training=True), long.compute_loss(BATCH, training=True))


@pytest.mark.parametrize("negatives", [*NAMED, *NAMED.values(), rr.sampling.Uniform(3)], ids=repr)
def test_negatives_survive_a_round_trip(negatives):
    model = two_tower(SPACE, catalogue=CATALOGUE, negatives=negatives)
    again = rr.core.from_config(rr.core.to_config(model), space=SPACE, catalogue=CATALOGUE)
    assert type(again.negatives) is type(model.negatives)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.test_step(BATCH)["loss"], model.test_step(BATCH)["loss"])


@pytest.mark.parametrize("negatives", ["all", ["in_batch"], None, rr.models.InBatchNegatives, rr.sampling.Uniform])
def test_anything_else_is_refused(negatives):
    with pytest.raises(rr.errors.ConfigError, match=r"\['in_batch', 'catalogue'\], a NegativeSource or a sampler"):
        two_tower(SPACE, negatives=negatives)


def test_the_sampler_of_the_batch_agrees_where_a_positive_is_not_its_own_negative():
    task = rr.tasks.Retrieval(remove_accidental_hits=True, temperature=0.5)
    losses = [
        two_tower(SPACE, task, negatives=negatives).compute_loss(BATCH, training=True)
        for negatives in (rr.models.InBatchNegatives(), rr.sampling.InBatch())
    ]
    torch.testing.assert_close(*losses)


class Recorded(rr.models.NegativeSource):
    """Notes what a step offers."""

    reads_catalogue, reads_log_q = True, True

    def __init__(self):
        self.steps = []

    def loss(self, step):
        self.steps.append((step, step.embed_positives(), step.embed_catalogue()))
        return (step.queries * step.embed_positives()).sum(dim=1).mean()


def test_a_custom_source_sees_the_step():
    source = Recorded()
    model = two_tower(SPACE, rr.tasks.Retrieval(log_q=True), catalogue=CATALOGUE, negatives=source, weight="rating")
    model.compute_loss(BATCH, training=True)
    [(step, positives, corpus)] = source.steps
    assert torch.equal(step.ids, BATCH["movie_id"])
    assert torch.equal(step.rows, CATALOGUE.rows(views(16, seed=3)["movie_id"]))
    assert torch.equal(step.weight, BATCH["rating"])
    counts = views()["movie_id"].value_counts()
    share = dict(zip(counts["movie_id"], counts["count"] / len(views()), strict=True))
    assert step.log_q.exp().tolist() == pytest.approx([share[name] for name in views(16, seed=3)["movie_id"]])
    assert torch.equal(positives, model.candidate_embeddings(BATCH))
    assert torch.equal(corpus, model.candidate_embeddings(CATALOGUE.batch))
    assert torch.equal(step.candidates(step.ids), positives)
    assert step.training
    with pytest.raises(rr.errors.ConfigError, match=r"a catalogue, for negatives=Recorded\(\)"):
        two_tower(SPACE, negatives=Recorded())


@pytest.mark.parametrize("num_candidates", [10, 5_000])
def test_an_evaluation_reports_the_penalty_that_training_minimizes(num_candidates):
    keys = [f"m{i}" for i in range(num_candidates)]
    ids = rr.core.ColumnSchema("movie", "ids", num_ids=num_candidates + 2)
    corpus = rr.features.Catalogue(keys, rr.Batch({"movie": torch.arange(2, num_candidates + 2)}), "movie")
    torch.manual_seed(0)
    model = rr.models.MatrixFactorization(
        rr.core.ColumnSchema("user", "ids", num_ids=9),
        ids,
        rr.tasks.Retrieval(),
        dim=4,
        l2=0.1,
        catalogue=corpus,
        negatives=rr.models.CatalogueNegatives(),
    )
    batch = rr.Batch({"user": torch.tensor([2, 3, 4]), "movie": torch.tensor([3, 4, 4])})
    trained = model.train_step(batch, rr.optim.SGD(lr=0.0).build(model.named_parameters()))
    evaluated = model.evaluate(rr.data.Loader(batch, 3))
    looked_up = ((model.query, batch["user"]), (model.candidate, torch.arange(2, num_candidates + 2)))
    expected = sum(0.1 * table.weight.detach()[rows].square().sum().item() / len(rows) for table, rows in looked_up)
    assert trained["regularization_loss"].item() == pytest.approx(expected, rel=1e-5)
    assert evaluated["regularization_loss"] == pytest.approx(expected, rel=1e-5)
    assert evaluated["total_loss"] == pytest.approx(trained["total_loss"].item(), rel=1e-5)
