"""Every part that is said to be independent gives each row the bits that it has alone; nothing else is let through."""

import polars as pl
import pytest
import torch
from torch import nn

import retrank as rr
from retrank.core.native import is_native, without_kernels
from retrank.recommender.frozen import FrozenModel
from retrank.recommender.row_independence import INDEPENDENT, is_row_independent
from retrank.recommender.stages import query_encoder

ROWS = 157

needs_kernels = pytest.mark.skipif(not is_native(), reason="no kernels on this machine")


def random_lists(longest=9, ids=40):
    lengths = torch.randint(0, longest, (ROWS,))
    values = torch.randint(2, ids, (int(lengths.sum()),))
    return rr.Jagged.from_lengths(values, lengths, torch.rand(len(values)))


def made():
    """One module of each kind, and inputs of many rows."""
    torch.manual_seed(0)
    ids, lists, numbers = torch.randint(2, 40, (ROWS,)), random_lists(), torch.randn(ROWS, 13)
    table = pl.DataFrame({"user": list(range(38)), "song": list(range(38)), "year": [float(i) for i in range(38)]})
    table = table.with_columns(recent=pl.concat_list("song", "song"))
    kinds = {"user": rr.features.Categorical(), "song": rr.features.Categorical(), "year": rr.features.Normalized()}
    space = rr.FeatureSpace({**kinds, "recent": rr.features.Recent("song")}).fit(table)
    batch = rr.Batch({"user": ids, "song": ids.flip(0), "year": torch.randn(ROWS), "recent": lists})
    tower = rr.models.Tower(space, ["user", "year"], layers=[37, 23, 8], dim=5, residual="recent")
    songs = rr.models.Tower(space, ["song"], layers=[8], residual="song")
    two = rr.models.TwoTower(tower, songs, rr.tasks.Retrieval(), normalize=True, tie_residuals=True)
    factors = rr.models.MatrixFactorization(space.schema["user"], space.schema["song"], rr.tasks.Retrieval(), dim=7)
    together = rr.layers.CoOccurrence(40, [1, 3])
    together.fit(rr.Jagged.from_lists([[2, 3, 4], [3, 4, 5, 9], [2, 9]]))
    collection = rr.EmbeddingCollection({"user": rr.EmbeddingTable(40, 6), "recent": rr.EmbeddingTable(40, 3)})
    yield tower, lambda module, rows: module(batch.take(rows))
    yield two, lambda module, rows: module.query_embeddings(batch.take(rows))
    yield factors, lambda module, rows: module.query_embeddings(batch.take(rows))
    yield rr.EmbeddingTable(40, 6), lambda module, rows: module(lists.take(rows))
    yield collection, lambda module, rows: module.concatenate(batch.take(rows))
    yield rr.layers.MLP(13, [50, 31, 9]), lambda module, rows: module(numbers[rows])
    yield rr.layers.Cross(13), lambda module, rows: module(numbers[rows])
    yield rr.layers.Cross(13, projection_dim=3), lambda module, rows: module(numbers[rows])
    yield together, lambda module, rows: module(lists.take(rows), ids[rows])
    for module in (nn.Dropout(), nn.Identity(), nn.ReLU()):
        yield module, lambda module, rows: module(numbers[rows])


def cases():
    return [pytest.param(module, run, id=type(module).__name__) for module, run in made()]


@needs_kernels
@pytest.mark.parametrize(("module", "run"), cases())
def test_a_row_has_the_same_bits_alone_and_among_others(module, run):
    module.eval()
    with torch.inference_mode():
        whole = run(module, torch.arange(ROWS))
        for rows in ([0], [5], [156], [3, 3], list(range(31)), list(range(9, 50)), list(range(156, -1, -1))):
            assert torch.equal(run(module, torch.tensor(rows)), whole[rows])
    assert is_row_independent(module)


@needs_kernels
@pytest.mark.parametrize("dim", [3, 8])
def test_a_reranker_scores_a_list_alike_alone_and_among_others(dim):
    torch.manual_seed(0)
    songs = pl.DataFrame({"song": list(range(38)), "year": [float(i) for i in range(38)]})
    kinds = {"song": rr.features.Categorical(), "year": rr.features.Normalized(), "recent": rr.features.Recent("song")}
    space = rr.FeatureSpace(kinds).fit(songs.with_columns(recent=pl.concat_list("song", "song")))
    model = rr.models.Reranker(space, ["song", "year"], candidate_id="song", recent="recent", layers=[17, 9], dim=dim)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    model.co_occurrence.fit(rr.Jagged.from_lists([[2, 3, 4], [3, 4, 5, 9], [2, 9]]))
    model.eval()
    catalogue = rr.Batch({"song": torch.arange(2, 40), "year": torch.randn(38)})
    queries = rr.Batch({"recent": random_lists()})
    lists = rr.models.Candidates(torch.randn(ROWS, 20), torch.randint(38, (ROWS, 20)))

    def score(rows):
        some = rr.models.Candidates(*(part[rows] for part in lists))
        with torch.inference_mode():
            return model(rr.models.pair_batch(queries.take(rows), catalogue, some)).view(-1, 20)

    whole = score(torch.arange(ROWS))
    for rows in ([0], [156], [7, 8], list(range(40, 99))):
        assert torch.equal(score(torch.tensor(rows)), whole[rows])
    assert is_row_independent(model)
    prepared = model.list_scorer(catalogue)
    broken = rr.models.Candidates(lists.scores, lists.rows.masked_fill(torch.rand(ROWS, 20) < 0.2, -1))
    for some in (lists, broken):
        with torch.inference_mode():
            pairs = model(rr.models.pair_batch(queries, catalogue, some)).view(-1, 20)
            at_once = prepared(queries, some)
            first = model(rr.models.pair_batch(queries, catalogue, some, num_standard=7)).view(-1, 20)
            first_at_once = prepared(queries, some, 7)
        assert torch.equal(at_once[some.rows >= 0], pairs[some.rows >= 0])
        assert torch.equal(first_at_once[some.rows >= 0], first[some.rows >= 0])


def test_every_independent_kind_is_tested():
    tested = {type(module) for module, _ in made()} | {rr.models.Reranker, nn.ModuleDict, nn.ModuleList}
    assert tested >= INDEPENDENT


def test_others_are_not_let_through():
    class Own(nn.Module):
        pass

    hooked = rr.layers.MLP(3, [2, 2])
    hooked.linears[0].register_forward_hook(lambda *_: None)
    for module in (
        Own(),
        nn.Linear(2, 2),
        nn.Sequential(nn.ReLU()),
        rr.layers.MLP(3, [2, 2], activation=nn.GELU()),
        hooked,
    ):
        assert not is_row_independent(module)


def test_other_models_are_asked_in_blocks_of_one_size():
    sizes = []

    class Squares(rr.models.TwoTower):
        def query_embeddings(self, batch):
            sizes.append(len(batch))
            return super().query_embeddings(batch)

    table = pl.DataFrame({"user": list(range(70)), "song": list(range(70))})
    space = rr.FeatureSpace({"user": rr.features.Categorical(), "song": rr.features.Categorical()}).fit(table)
    towers = [rr.models.Tower(space, [name], layers=[8, 4]) for name in ("user", "song")]
    model = Squares(*towers, rr.tasks.Retrieval())
    frozen = FrozenModel.of(model, space)
    batch = space.transform(table, ["user"])
    assert len(query_encoder(frozen)(batch)) == 70
    assert len(query_encoder(frozen)(batch[:1])) == 1
    assert sizes == [32, 32, 32, 32]
    plain = FrozenModel.of(rr.models.TwoTower(*towers, rr.tasks.Retrieval()), space)
    with without_kernels():
        encode = query_encoder(plain)
        for rows in (slice(0, 1), slice(3, 40)):
            torch.testing.assert_close(encode(batch[rows]), encode(batch)[rows])
