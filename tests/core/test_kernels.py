"""A kernel gets the memory that it declares, or it is not called."""

import subprocess
import sys
from array import array
from pathlib import Path

import pytest
import torch

import retrank as rr
from retrank.core.errors import RetrankError, ShapeError
from retrank.core.native import call, kernels, library, num_threads, tile_shape
from retrank.core.native.declarations import Dimension, read_declarations

needs_kernels = pytest.mark.skipif(library() is None, reason="no C++ compiler")
SOURCES = Path(kernels.__file__).parent


def test_declarations_are_read_as_they_are_written():
    source = """
        void helper(int64_t a) { }
        extern "C" {
void first(int64_t threads, int64_t count, float scale,
           const float *rows /* (count + 1: step, width[-1], 3) */, int64_t step,
           const int64_t *width /* (n) */, int32_t *ids) {
}
void second(int64_t threads, float *const *parts /* n x (count, width[]) or null */, uint16_t *weights) {
}
    """
    declared = read_declarations(source)
    assert list(declared) == ["first", "second"]
    count, scale, rows, step, width, ids = declared["first"].parameters
    assert [p.name for p in (count, scale, rows, step, width, ids)] == [
        "count",
        "scale",
        "rows",
        "step",
        "width",
        "ids",
    ]
    assert (count.pointers, count.dtype, scale.pointers, scale.dtype) == (0, torch.int64, 0, torch.float32)
    assert rows.shape == (
        Dimension("count", None, is_each=False, plus=1, stride="step"),
        Dimension("width", -1, is_each=False, plus=0, stride=None),
        Dimension("3", None, is_each=False, plus=0, stride=None),
    )
    assert not rows.is_nullable
    assert ids.shape is None
    parts, weights = declared["second"].parameters
    assert (parts.pointers, parts.length, parts.is_nullable, weights.dtype) == (2, "n", True, torch.bfloat16)
    assert parts.shape[1].is_each


@pytest.mark.parametrize(
    "parameter",
    [
        "Matrix *rows",
        "const float &rows",
        "const float *rows /* some */",
        "const float *const *rows /* (n) */",
        "float",
    ],
)
def test_a_declaration_that_is_not_understood_is_refused(parameter):
    with pytest.raises(RetrankError, match="kernel odd"):
        read_declarations(f'extern "C" {{\nvoid odd(int64_t threads, {parameter}) {{\n}}')


@pytest.mark.parametrize("path", sorted(SOURCES.glob("*.cpp")), ids=lambda path: path.name)
def test_every_kernel_declares_sizes_that_it_is_given(path):
    declared = read_declarations(path.read_text())
    assert declared
    for kernel in declared.values():
        known = {"threads", "ROWS", "WIDTH", "LANES", *(p.name for p in kernel.parameters)}
        for parameter in kernel.parameters:
            for dimension in parameter.shape or ():
                assert dimension.name in known or dimension.name.isdigit(), f"{kernel.name}, {parameter.name}"
                assert dimension.stride is None or dimension.stride in known


def crosses(**changes):
    """Call a kernel for 5 rows of 3 numbers and 2 layers."""
    _, _, lanes = tile_shape()
    sizes = {"batch": 5, "dim": 3, "layers": 2, "stride": lanes}
    parameters = {name: torch.zeros(2, lanes) for name in ("down", "kernel", "bias")}
    given = {**sizes, "inputs": torch.ones(5, 3), **parameters, "outputs": torch.zeros(5, 3), **changes}
    call("rank_one_crosses", *given.values())
    return given["outputs"]


def without_memory():
    tensor = torch.ones(5, 3)
    tensor.untyped_storage().resize_(0)
    return tensor


WRONG = {
    "float64": lambda: torch.ones(5, 3, dtype=torch.float64),
    "integers of the same size": lambda: torch.ones(5, 3, dtype=torch.int32),
    "fewer rows": lambda: torch.ones(4, 3),
    "more columns": lambda: torch.ones(5, 4),
    "a transpose": lambda: torch.ones(3, 5).T,
    "expanded": lambda: torch.ones(1, 3).expand(5, 3),
    "negated": lambda: torch.ones(5, 3, dtype=torch.complex64).conj().imag,
    "sparse": lambda: torch.ones(5, 3).to_sparse(),
    "elsewhere": lambda: torch.ones(5, 3, device="meta"),
    "a subclass": lambda: torch.ones(5, 3).as_subclass(type("Sub", (torch.Tensor,), {})),
    "memory taken away": without_memory,
    "an address": lambda: torch.ones(5, 3).data_ptr(),
    "nothing": lambda: None,
    "a list": lambda: [torch.ones(5, 3)],
    "an array of another kind": lambda: array("d", [1.0] * 15),
    "a short array": lambda: array("f", [1.0] * 14),
    "numpy": lambda: torch.ones(5, 3).numpy(),
}


@needs_kernels
@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("name", ["inputs", "outputs"])
def test_memory_that_does_not_fit_is_refused(name, make):
    with pytest.raises(ShapeError, match=f"kernel rank_one_crosses, {name}: expected"):
        crosses(**{name: make()})


@needs_kernels
def test_memory_that_fits_is_taken_whatever_holds_it():
    assert crosses().tolist() == [[1.0] * 3] * 5
    assert crosses(inputs=array("f", [2.0] * 15)).tolist() == [[2.0] * 3] * 5
    assert crosses(inputs=torch.ones(15)).tolist() == [[1.0] * 3] * 5
    assert crosses(inputs=torch.nn.Parameter(torch.ones(5, 3))).tolist() == [[1.0] * 3] * 5
    crosses(batch=0, inputs=torch.ones(0, 3), outputs=torch.ones(0, 3))


@needs_kernels
@pytest.mark.parametrize("size", [4, 6, -1, 2**62, 2**63, 2**64 + 5, 5.0, "5", None, torch.tensor(5)])
def test_a_size_that_does_not_fit_is_refused(size):
    with pytest.raises(ShapeError):
        crosses(batch=size)


@needs_kernels
def test_sequences_are_checked_one_by_one():
    def pairs(fields, strides, batch=4, count=2, dim=3):
        products = torch.zeros(4, 1)
        call("dot_interaction", batch, count, dim, 0, 1, array("q", strides), fields, products)
        return products

    fields = [torch.ones(4, 3), torch.ones(4, 9)[:, 2:5]]
    assert pairs(fields, [3, 9]).tolist() == [[3.0]] * 4
    with pytest.raises(ShapeError, match=r"inputs\[1\]: expected"):
        pairs(fields, [3, 3])
    with pytest.raises(ShapeError, match=r"inputs\[0\]: expected"):
        pairs([None, fields[1]], [3, 9])
    with pytest.raises(ShapeError, match="a list of 2 tensors"):
        pairs(fields[:1], [3, 9])
    with pytest.raises(ShapeError, match="an array of 2"):
        pairs(fields, [3])
    with pytest.raises(ShapeError, match="a list of 2 tensors"):
        pairs(torch.ones(2, 4, 3), [3, 3])


@needs_kernels
def test_unknown_kernels_and_numbers_of_arguments():
    with pytest.raises(RetrankError, match="kernel no_such_kernel"):
        call("no_such_kernel")
    with pytest.raises(ShapeError, match="expected 9 arguments, got 1"):
        call("rank_one_crosses", 1)


@needs_kernels
def test_checks_hold_without_assertions():
    script = """
import torch, retrank as rr
from retrank.ops.dense import dense
assert False, "assertions are off"
for attempt in (
    lambda: rr.core.native.call("rank_one_crosses", 5, 3, 2, 16, *[torch.ones(4, 3)] * 5),
    lambda: dense(torch.ones(50, 3), torch.ones(4, 9)),
    lambda: rr.Jagged(torch.tensor([2, 3]), torch.tensor([0, 5, 2])),
):
    try:
        attempt()
    except rr.errors.ShapeError:
        print("refused")
"""
    environment = {"PYTHONPATH": str(Path(rr.__file__).parents[1]), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
    command = [sys.executable, "-O", "-c", script]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert output.split() == ["refused"] * 3


def test_as_many_threads_as_torch_uses():
    assert num_threads() == torch.get_num_threads()
