"""Kills a training at any moment, again and again: `python -m tests.training.killed FOLDER KILLS`.

Every process that trains is a fork of one that has imported everything and computed nothing. What is left after the
last kill must train on to the very weights of a training that nobody disturbed.
"""

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
from tests.core.processes import child
from tests.training.test_resume import ratings_model, train

import retrank as rr


def train_to_the_end(checkpoint, weights):
    """From the checkpoint, whatever it holds, with a model that knows nothing; and keep the weights."""
    model = ratings_model(seed=8 if checkpoint is not None and checkpoint.exists() else 0)
    train(model, checkpoint=checkpoint, every=None if checkpoint is None else 1)
    rr.training.save_weights(weights, model)


def outcome(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main(folder, kills):
    assert outcome(child(lambda: train_to_the_end(None, folder / "expected"))) == 0
    moments = random.Random(0)
    while kills > 0:
        process = child(lambda: train_to_the_end(folder / "run", folder / "weights"))
        time.sleep(moments.uniform(0, 0.5))
        os.kill(process, signal.SIGKILL)
        if (code := outcome(process)) == -signal.SIGKILL:
            kills -= 1
        if code == 0 or kills == 0:
            assert outcome(child(lambda: train_to_the_end(folder / "run", folder / "weights"))) == 0
            same = [rr.training.read_checkpoint(folder / name)["model"] for name in ("expected", "weights")]
            assert all(torch.equal(value, same[1][name]) for name, value in same[0].items()), "other weights"
            shutil.rmtree(folder / "run")  # and once more from the beginning
        else:
            assert code == -signal.SIGKILL, code
    assert sorted(path.name for path in folder.iterdir()) == ["expected", "weights"]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
