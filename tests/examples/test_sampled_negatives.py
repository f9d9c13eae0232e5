"""The example runs from end to end on invented data, and prints the tables that the documentation shows."""

import pytest
import torch

import retrank as rr
from tests.test_examples import example, table

pytestmark = [
    pytest.mark.usefixtures("fake_movielens_data"),
    pytest.mark.filterwarnings("ignore:.*count as misses"),
]


@pytest.fixture
def module(monkeypatch):
    """The example, on few of the invented rows."""
    split = rr.data.random_split
    monkeypatch.setattr(rr.data, "random_split", lambda rows, **_: split(rows[:6000], test_size=1000, seed=0))
    return example("sampled_negatives")


def test_every_setting_has_a_row_and_the_options_are_shown(module, capsys):
    settings = [module.SETTINGS[place] for place in (0, 1, 8)]
    module.main(seeds=1, epochs=1, settings=settings)
    shares, options, sentence = capsys.readouterr().out.strip().split("\n\n")
    head, *rows = table(shares)
    assert head == [
        "negatives", "corrected", "loss", "kept, top-10", "kept, top-100", "excluded, top-10", "excluded, top-100",
    ]  # fmt: skip
    assert [row[:3] for row in rows] == [
        ["popularity", "", ""],
        ["all movies", "", "cross entropy"],
        ["the batch", "no", "cross entropy"],
        ["the batch", "by counts", "cross entropy"],
        ["100 uniform", "", "cross entropy"],
    ]
    for row in rows:
        kept, excluded = [float(cell) for cell in row[3:5]], [float(cell) for cell in row[5:]]
        assert kept == sorted(kept)
        assert excluded == sorted(excluded)
        assert all(one <= other for one, other in zip(kept, excluded, strict=True))
    head, removed, lowered, left, inference = table(options)
    assert head == ["option", "scores", "false negatives a row", "their weight in the softmax"]
    assert [row[1] for row in (removed, lowered, left)] == ["(500, 501)"] * 3
    assert float(removed[3]) == 0 < float(left[3])
    assert float(removed[2]) == float(lowered[2]) == float(left[2]) >= 1
    assert inference[0].startswith("`sampled_softmax=True`")
    assert sentence.startswith("By the cached queries, ")


def test_every_setting_trains(module):
    data = module.read()
    batch = data.space.transform(data.train[:64])
    assert len({(s.negatives, s.corrected, s.loss_name) for s in module.SETTINGS}) == len(module.SETTINGS)
    for setting in module.SETTINGS:
        scorer = rr.tasks.RetrievalScorer(
            setting.samplers(data.space.vocabulary("movie_id").counts),
            sampled_softmax=True,
            candidate_id="movie_id",
            log_q=setting.corrected in ("by counts", "as learned"),
            downscore_false_negatives=setting.downscore,
        )
        factorization = data.factorization()
        model = module.SampledFactorization(factorization, scorer, setting.loss, output_l2=setting.output_l2)
        optimizer = rr.optim.LazyAdam(lr=0.05).build(model.named_parameters())
        losses = [float(model.train_step(batch, optimizer)["loss"]) for _ in range(20)]
        assert torch.isfinite(torch.tensor(losses)).all(), setting
        assert losses[-1] < losses[0], setting


def test_means_and_spreads_are_printed(module, capsys):
    run = {(seen, k): 0.1 for seen in module.SEEN for k in module.KS}
    module.print_row(["one", "", ""], [run])
    module.print_row(["two", "no", "BPR"], [run, {place: value + 0.2 for place, value in run.items()}])
    assert capsys.readouterr().out.splitlines() == [
        "| one |  |  | 0.1000 | 0.1000 | 0.1000 | 0.1000 |",
        "| two | no | BPR | 0.2000 | 0.2000 ± 0.1000 | 0.2000 | 0.2000 ± 0.1000 |",
    ]
