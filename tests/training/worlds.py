"""Small models and tables whose training can be checked."""

import torch
from torch import Tensor, nn

import retrank as rr


class Line(rr.Model):
    """y = slope * x, with dropout on x so that the random state matters."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(1))
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: rr.Batch) -> Tensor:
        return self.dropout(batch["x"]) * self.slope

    def compute_loss(self, batch: rr.Batch, training: bool = False) -> Tensor:
        return (self(batch) - batch["y"]).square().mean()


class Ratings(rr.Model):
    """Embeddings, dense layers, dropout, a penalty and two metrics: everything that a checkpoint must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.table = rr.EmbeddingTable(12, 4, l2=0.01)
        self.score = rr.layers.MLP(4, [6, 1], dropout=0.3, l2=0.001)
        self.task = rr.tasks.Ranking(
            loss=nn.MSELoss(), metrics=[rr.metrics.RootMeanSquaredError(), rr.metrics.LabelMean()]
        )

    def forward(self, batch: rr.Batch) -> Tensor:
        return self.score(self.table(batch["id"])).squeeze(1)

    def compute_loss(self, batch: rr.Batch, training: bool = False) -> Tensor:
        return self.task(labels=batch["label"], predictions=self(batch))


def line_batch(num_rows: int = 10) -> rr.Batch:
    x = torch.linspace(-1, 1, num_rows)
    return rr.Batch({"x": x, "y": 3 * x})


def ratings_batch(num_rows: int = 22) -> rr.Batch:
    rng = rr.core.generator(5, "ratings")
    ids = torch.randint(2, 12, (num_rows,), generator=rng)
    return rr.Batch({"id": ids, "label": (ids % 5).float() + torch.rand(num_rows, generator=rng)})


def ratings_model(seed: int = 3) -> Ratings:
    torch.manual_seed(seed)
    return Ratings()


def loader(batch: rr.Batch, batch_size: int = 4, **kwargs) -> rr.data.Loader:
    return rr.data.Loader(batch, batch_size, **kwargs)


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
