"""`TwoTower` with normalised outputs and one residual table for both towers."""

import numpy as np
import polars as pl
import pytest
import torch

import retrank as rr

plays = pl.DataFrame({"user": list("aabbcc"), "song": list("xyyzzx"), "time": range(6)})
plays = rr.data.with_recent_candidates(plays, query="user", candidate="song", time="time", length=3)
KINDS = {
    "user": rr.features.Categorical(),
    "song": rr.features.Categorical(),
    "recent": rr.features.Recent("song", decay=0.3),
}
SPACE = rr.FeatureSpace(KINDS).fit(plays)
BATCH = SPACE.transform(plays)


def build(**arguments):
    torch.manual_seed(0)
    return rr.models.TwoTower(
        rr.models.Tower(SPACE, ["user"], layers=[4], residual="recent"),
        rr.models.Tower(SPACE, ["song"], layers=[4], residual="song"),
        rr.tasks.Retrieval(temperature=0.1),
        normalize=True,
        tie_residuals=True,
        **arguments,
    )


def test_outputs_have_length_one():
    model = build()
    for embeddings in (model.embed_queries(BATCH), model.embed_candidates(BATCH)):
        np.testing.assert_allclose(embeddings.norm(dim=1), 1.0, rtol=1e-6)


def test_the_table_is_one_and_learns_from_both_sides():
    model = build()
    assert model.query.residual is model.candidate.residual
    assert len({id(p) for p in model.parameters()}) == len(list(model.parameters()))
    before = model.query.residual.weight.detach().clone()
    model.fit(rr.data.Loader(BATCH, 6), optimizer=rr.optim.LazyAdam(lr=0.1), epochs=2, progress=False)
    assert (model.query.residual.weight[2:] != before[2:]).any(dim=1).all()
    assert (model.query.residual.weight[0] == 0).all()


def test_tied_tables_survive_rebuilding_and_resuming(tmp_path):
    model = build()
    again = rr.core.from_config(rr.core.to_config(model), space=SPACE)
    assert again.query.residual is again.candidate.residual
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.embed_queries(BATCH), model.embed_queries(BATCH))
    whole, halves = build(), build()
    optimizer = rr.optim.LazyAdam(lr=0.1)
    whole.fit(rr.data.Loader(BATCH, 2, shuffle=True), optimizer=optimizer, epochs=4, progress=False)
    for epochs in (2, 4):
        loader = rr.data.Loader(BATCH, 2, shuffle=True)
        halves.fit(loader, optimizer=optimizer, epochs=epochs, checkpoint=tmp_path / "c", progress=False)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, halves.state_dict()[name]), name


def test_residuals_in_other_vocabularies_are_refused():
    with pytest.raises(rr.errors.ConfigError, match="one vocabulary"):
        rr.models.TwoTower(
            rr.models.Tower(SPACE, ["user"], layers=[4], residual=None),
            rr.models.Tower(SPACE, ["song"], layers=[4], residual="song"),
            rr.tasks.Retrieval(),
            tie_residuals=True,
        )
