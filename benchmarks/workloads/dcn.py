"""DCN: three cross layers of rank 1 beside an MLP, on the data of DLRM."""

import contextlib
import io
from functools import partial

from benchmarks import data
from benchmarks.workload import Case, Contender, Goal, Job, Workload, repeated
from benchmarks.workloads.dlrm import BATCH, DENSE, DIM, NAMES, RATE, ROWS, STEPS, TABLES

CROSSES, LAYERS = 3, [512, 256]
TABLE_ROWS = 100_000


def ours(batch: int = BATCH) -> Job:
    import torch

    import retrank as rr
    from benchmarks.workloads.ours import epochs

    numbers, ids, labels = map(torch.from_numpy, data.clicks(ROWS, TABLES, TABLE_ROWS))
    model = rr.models.dcn_v2(
        rr.EmbeddingCollection({name: rr.EmbeddingTable(TABLE_ROWS + 2, DIM) for name in NAMES}),
        structure="parallel",
        num_crosses=CROSSES,
        projection_dim=1,
        layers=LAYERS,
        dense_features=[rr.core.ColumnSchema("numbers", "number", width=DENSE)],
        task=rr.tasks.Ranking(),
        id_l2=0.0,  # the peers have no penalty
    )
    ids = ids.long() + 2
    columns = dict(zip(NAMES, (column.contiguous() for column in ids.unbind(1)), strict=True))
    batches = rr.data.Loader(rr.Batch({**columns, "numbers": numbers, "label": labels}), batch)
    return epochs(model, batches, rr.optim.Adagrad(lr=RATE), ROWS)


def torch_rechub(*, own_loader: bool) -> Job:
    import torch
    from torch_rechub.basic.features import DenseFeature, SparseFeature
    from torch_rechub.models.ranking import DCN
    from torch_rechub.trainers import CTRTrainer
    from torch_rechub.utils.data import TorchDataset

    numbers, ids, labels = data.clicks(ROWS, TABLES, TABLE_ROWS)
    sparse = [SparseFeature(name, vocab_size=TABLE_ROWS, embed_dim=DIM) for name in NAMES]
    dense = [DenseFeature(f"d{number}") for number in range(DENSE)]
    columns = {feature.name: column.copy() for feature, column in zip(sparse, ids.T, strict=True)}
    columns |= {feature.name: column.copy() for feature, column in zip(dense, numbers.T, strict=True)}
    model = DCN([*sparse, *dense], n_cross_layers=CROSSES, mlp_params={"dims": LAYERS})
    trainer = CTRTrainer(
        model, optimizer_fn=torch.optim.Adagrad, optimizer_params={"lr": RATE}, n_epoch=1, device="cpu"
    )
    batches: object = [
        ({name: torch.from_numpy(column[start : start + BATCH]) for name, column in columns.items()},
         torch.from_numpy(labels[start : start + BATCH]))
        for start in range(0, ROWS, BATCH)
    ]  # fmt: skip
    if own_loader:
        batches = torch.utils.data.DataLoader(TorchDataset(columns, labels), batch_size=BATCH, shuffle=True)

    def epoch() -> None:
        with contextlib.redirect_stderr(io.StringIO()):  # its bar of progress
            trainer.train_one_epoch(batches)

    return repeated(epoch, ROWS)


def limit() -> Job:
    from benchmarks.limits import products

    widths = [TABLES * DIM + DENSE, *LAYERS]
    crossed = (BATCH, widths[0], 1)
    shapes = [*((BATCH, a, b) for a, b in zip(widths, LAYERS, strict=False)), *[crossed] * CROSSES]
    return products(shapes, ROWS, STEPS)


OURS, PEER, LIMIT = "retrank", "torch-rechub", "limit: matrix products of the step"
LIBRARIES = ("torch", "retrank")
WORKLOAD = Workload(
    "dcn",
    "DCN",
    [
        Case(
            "100k",
            "Steps with 26 tables of 100,000 x 32, batches of 8,192, Adagrad",
            "examples",
            [
                Contender(OURS, ours, "ours", libraries=LIBRARIES),
                Contender(
                    PEER,
                    partial(torch_rechub, own_loader=False),
                    environment="torch-rechub",
                    libraries=("torch", "torch_rechub"),
                ),
                Contender(
                    "torch-rechub with its own loader",
                    partial(torch_rechub, own_loader=True),
                    environment="torch-rechub",
                    libraries=("torch", "torch_rechub"),
                ),
                Contender(LIMIT, limit, "limit"),
            ],
            [Goal(OURS, PEER, rate=2.0), Goal(OURS, LIMIT, rate=0.7)],
            note=(
                f"A repeat is {STEPS} steps. The first line of torch-rechub is given ready batches. Its cross layers "
                "multiply by one vector, ours by two; its MLP normalises batches, ours does not."
            ),
        ),
        Case(
            "scaling",
            "The same as the batch grows",
            "examples",
            [
                Contender(f"{OURS}, {batch:,}", partial(ours, batch), "ours", libraries=LIBRARIES, size=batch)
                for batch in (512, 2048, 8192)
            ],
            grows="batch",
            repeats=3,
        ),
    ],
)
