"""Under `python -O`, which leaves assertions out."""

import subprocess
import sys


def test_what_would_write_into_memory_of_others_is_refused_all_the_same():
    program = """
import torch, retrank as rr
assert False, "python -O leaves this out"
w = torch.nn.Parameter(torch.zeros(10_000, 32))
optimizer = rr.optim.LazyAdam(lr=0.1).build([("w", w)])
w.grad = torch.ones(10_000, 32)
optimizer.step()
kept = optimizer.state[w]["mean"]
for bad in (kept[:, :3].contiguous(), kept.half(), kept.t(), torch.cat([kept, kept])):
    optimizer.state[w]["mean"] = bad
    try:
        optimizer.step()
    except rr.errors.ShapeError as error:
        print("refused")
optimizer.state[w]["mean"] = kept
w.grad = torch.sparse_coo_tensor(torch.tensor([[10_000_000]]), torch.ones(1, 32), w.shape, check_invariants=False)
try:
    optimizer.step()
except rr.errors.DataError:
    print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-O", "-W", "ignore", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["refused"] * 5
