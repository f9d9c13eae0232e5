"""A fresh interpreter: importing the library, and its first training step."""

import os
import subprocess
import sys
from functools import partial

from benchmarks.environments import FOLDER
from benchmarks.workload import Case, Contender, Goal, Job, Workload, repeated

TORCH = """
import torch
users, movies = (torch.nn.Embedding(1000, 32, sparse=True) for _ in range(2))
optimizer = torch.optim.Adagrad([users.weight, movies.weight], lr=0.1)
ids = torch.arange(1000)
torch.nn.functional.cross_entropy(users(ids) @ movies(ids).T, ids).backward()
optimizer.step()
"""
RETRANK = """
import torch
import retrank as rr
users, movies = (rr.core.ColumnSchema(name, "ids", num_ids=1000) for name in ("user_id", "movie_id"))
model = rr.models.MatrixFactorization(users, movies, rr.tasks.Retrieval(), dim=32, bias=False)
ids = torch.arange(1000)
batches = rr.data.Loader(rr.Batch({"user_id": ids, "movie_id": ids}), 1000)
model.fit(batches, optimizer=rr.optim.Adagrad(lr=0.1), epochs=1, progress=False)
"""
TFRS = """
import tensorflow as tf
import tensorflow_recommenders as tfrs

class TwoTower(tfrs.Model):
    def __init__(self):
        super().__init__()
        self.users, self.movies = (tf.keras.layers.Embedding(1000, 32) for _ in range(2))
        self.task = tfrs.tasks.Retrieval()

    def compute_loss(self, ids, training=False):
        return self.task(self.users(ids), self.movies(ids))

model = TwoTower()
model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1))
model.fit(tf.data.Dataset.range(1000).batch(1000), epochs=1, verbose=0)
"""


def fresh(code: str) -> Job:
    """Run code in a new process of this worker's interpreter, with the bytecode that an installed library has."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(FOLDER / "bytecode")}
    command = [sys.executable, "-c", code]
    return repeated(lambda: subprocess.run(command, check=True, stdout=sys.stderr, env=environment), 1)


OURS, PLAIN, PEER = "retrank", "plain torch", "TFRS"
WORKLOAD = Workload(
    "startup",
    "Start",
    [
        Case(
            "import",
            "A fresh interpreter that imports the library and ends",
            "starts",
            [
                Contender(OURS, partial(fresh, "import retrank"), "ours", libraries=()),
                Contender(PLAIN, partial(fresh, "import torch"), libraries=()),
                Contender(PEER, partial(fresh, "import tensorflow_recommenders"), environment="tfrs", libraries=()),
                Contender("Python alone", partial(fresh, "pass"), "limit", libraries=()),
            ],
            [Goal(OURS, PLAIN, rate=1 / 1.5)],
        ),
        Case(
            "first_step",
            "A fresh interpreter that imports, builds two towers of 1,000 ids, and trains one step",
            "starts",
            [
                Contender(OURS, partial(fresh, RETRANK), "ours", libraries=()),
                Contender(PLAIN, partial(fresh, TORCH), libraries=()),
                Contender(PEER, partial(fresh, TFRS), environment="tfrs", libraries=()),
            ],
        ),
    ],
)
