"""What the hot paths cost, in operations and in memory: numbers that do not depend on how busy the machine is."""

import sys
from pathlib import Path

import pytest
import torch

import retrank as rr
from retrank.core import native
from tests.allocations import Recorded, peak_memory
from tests.models.test_conformance import CASES

WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::_unique2"}
LOOKS_ON_CPU = {  # where the host looks at numbers that it has; none of these looks on a GPU
    "core/offsets.py: _require_within",
    "core/offsets.py: require_ascending",
    "core/offsets.py: row_numbers",
    "losses/checks.py: checked",
    "ops/concatenate_lookups.py: _refuse_ids_out_of_range",
    "ops/lookup.py: backward",
    "ops/softmax.py: _check",
    "ops/softmax_by_kernel.py: of",
    "ops/row_sparse.py: require_rows",
    "sampling/probabilities.py: look_up",
    "tasks/logits.py: _check_positives",
}
WAITS_ANYWHERE = {  # once a list column of the candidates that it takes out of the catalogue: how long is it?
    "two_tower_sampled": {"core/offsets.py: gather_rows"},
    "reranker": {"core/offsets.py: gather_rows"},
}
LIBRARY = Path(rr.__file__).parent
PIECE = 2**21 * 4  # bytes of the most scores that plain torch holds at a time on the CPU

pytestmark = pytest.mark.usefixtures("with_and_without_kernels")


def corpus(num_candidates, num_queries=200, dim=8):
    candidates = torch.randn(num_candidates, dim)
    return torch.randn(num_queries, dim), candidates, torch.randint(num_candidates, (num_queries,))


def recorded(run):
    run()  # what is made once is made
    with Recorded() as record:
        run()
    return record


def whole_corpus(num_candidates, exclude):
    """An evaluation and a search; the exclusions are as many for any corpus."""
    queries, candidates, positives = corpus(num_candidates)
    index, seen = rr.index.Exact(candidates), rr.Jagged.from_lists([[1, 2, 3]] * len(queries)) if exclude else None

    def run():
        rr.metrics.rank_of_positive(queries, candidates, positives, exclude=seen)
        index.search_rows(queries, 10, exclude=seen)

    return run


@pytest.mark.parametrize("exclude", [False, True])
def test_an_evaluation_and_a_search_never_hold_all_scores(exclude):
    num_candidates, num_queries, dim = 60_000, 200, 8
    run = whole_corpus(num_candidates, exclude)
    record = recorded(run)
    with peak_memory() as peak:
        run()
    all_scores = num_candidates * num_queries * 4  # 48 MB
    assert record.largest <= 2 * num_candidates * dim * 4 < all_scores / 10  # the candidates, in another layout
    assert peak.grown < all_scores / 2


@pytest.mark.parametrize("exclude", [False, True])
def test_the_operations_of_an_evaluation_and_a_search_do_not_grow_with_the_corpus(exclude):
    small, large = (recorded(whole_corpus(size, exclude)) for size in (1000, 60_000))
    if native.is_native(torch.zeros(1)):
        assert small.num_operations == large.num_operations < 150
    else:
        assert large.num_operations < 20 * small.num_operations  # 30 products instead of 1, each of 2,048 candidates


def training(num_rows, columns, dim, **settings):
    queries = torch.randn(num_rows, dim, requires_grad=True)
    candidates = torch.randn(columns, dim, requires_grad=True)
    ids, task = torch.arange(columns), rr.tasks.Retrieval(remove_accidental_hits=True, **settings)

    def run():
        queries.grad = candidates.grad = None
        task(queries, candidates, candidate_ids=ids).backward()

    return run


def test_an_in_batch_loss_holds_its_embeddings_and_no_scores():
    num_rows, columns, dim = 2000, 6000, 16
    record = recorded(training(num_rows, columns, dim))
    if native.is_native(torch.zeros(1)):
        assert record.largest <= 2 * (num_rows + columns) * dim * 4
        assert record.total <= 40 * (num_rows + columns) * dim * 4 < num_rows * columns * 4
    else:
        assert record.largest <= 1.1 * PIECE < num_rows * columns * 4 / 5


def test_the_operations_of_an_in_batch_loss_do_not_grow_with_the_batch():
    small, large = (recorded(training(size, size, 8)).num_operations for size in (64, 3000))
    if native.is_native(torch.zeros(1)):
        assert large <= small + 20 < 130  # a few views
    else:
        assert large < 10 * small  # 5 blocks of scores, each computed twice


OPTIMIZERS = [
    rr.optim.Adagrad(lr=0.1),
    rr.optim.RowwiseAdagrad(lr=0.1),
    rr.optim.LazyAdam(lr=0.1),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda spec: type(spec).__name__)
@pytest.mark.parametrize("lists", [False, True])
def test_a_step_of_a_table_touches_the_rows_of_its_batch_alone(optimizer, lists):
    num_ids, dim = 200_000, 16
    table = rr.EmbeddingTable(num_ids, dim, l2=0.01)
    moved = optimizer.build(table.named_parameters())
    ids = torch.randint(num_ids, (512,))
    ids = rr.Jagged(ids, torch.arange(0, 513, 4)) if lists else ids

    def run():
        moved.zero_grad()
        (table(ids).square().sum() + table.penalty(ids)).backward()
        assert table.weight.grad.is_sparse
        moved.step()

    record = recorded(run)
    assert record.largest <= 4 * 512 * dim * 4 < num_ids * dim * 4 / 50
    assert record.num_operations < 200


def test_a_stack_of_dense_layers_holds_what_its_gradient_needs_and_nothing_else():
    num_rows, widths = 5000, [32, 64, 48, 1]
    mlp, inputs = rr.layers.MLP(widths[0], widths[1:]), torch.randn(num_rows, widths[0])
    hidden = num_rows * sum(widths[1:-1]) * 4

    def serve():
        with torch.no_grad():
            mlp(inputs)

    served, learned = recorded(serve), recorded(lambda: mlp(inputs).sum().backward())
    if native.is_native(torch.zeros(1)):
        assert served.total < num_rows * 8  # the output
        assert served.num_operations < 5
        assert learned.total < 1.7 * hidden  # with room to spread them in the cache; no gradient of them in memory
        assert learned.num_operations < 40
    else:
        assert served.total <= 1.1 * hidden
        assert learned.total < 4 * hidden


def features(count, num_rows=400):
    embeddings = rr.EmbeddingCollection({f"c{number}": rr.EmbeddingTable(1000, 8) for number in range(count)})
    return embeddings, rr.Batch({f"c{number}": torch.randint(2, 1000, (num_rows,)) for number in range(count)})


def test_another_feature_costs_no_other_pass_over_the_vectors():
    def learn(count):
        embeddings, batch = features(count)
        pull = torch.ones(400, 8 * count)

        def run():
            embeddings.zero_grad()
            embeddings.concatenate(batch).backward(pull)

        return recorded(run)

    few, many = learn(4), learn(14)
    if native.is_native(torch.zeros(1)):
        vectors = 400 * 8 * 4
        assert many.total < 14 * 2.1 * vectors  # the vectors, and their gradients
        assert many.num_operations - few.num_operations <= 10 * 14


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda spec: type(spec).__name__)
def test_a_step_of_all_parameters_takes_no_memory(optimizer):
    embeddings, batch = features(6)
    model = torch.nn.ModuleList([embeddings, rr.layers.MLP(48, [64, 1])])
    moved = optimizer.build(model.named_parameters())

    def learn():
        moved.zero_grad()
        model[1](embeddings.concatenate(batch)).sum().backward()

    learn()
    moved.step()  # makes its state
    learn()
    with Recorded() as record:
        moved.step()
    if native.is_native(torch.zeros(1)):
        views = ("detach", "_values", "_indices", "select", "sparse_dim", "dense_dim")
        assert {name for name in record.operations if name.startswith("aten::")} <= {f"aten::{name}" for name in views}


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_gathers_once_a_column_and_batch(shuffle):
    def operations(num_rows, batch_size, num_columns):
        columns = {f"c{number}": torch.arange(num_rows) for number in range(num_columns)}
        batches = iter(rr.data.Loader(rr.Batch(columns), batch_size, shuffle=shuffle))
        next(batches)  # the order of the epoch is drawn
        with Recorded() as record:
            next(batches)
        next(batches).select(["c0"])
        return record

    few, many = operations(1000, 10, 3), operations(1000, 10, 13)
    for_a_column, rest = divmod(many.num_operations - few.num_operations, 10)
    assert rest == 0
    assert for_a_column == 1  # a gather, or a view
    assert many.num_operations <= 13 + 3
    assert operations(50_000, 1000, 3).operations == few.operations
    assert many.largest <= (10 * 8 if shuffle else 0)


class Waits(Recorded):
    """Note the functions of the library in which the host asks for a number of the device."""

    def __init__(self):
        super().__init__()
        self.places = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket._qualified_op_name in WAITS:
            frame = sys._getframe()
            while not frame.f_code.co_filename.startswith(str(LIBRARY)):
                frame = frame.f_back
            self.places.add(f"{Path(frame.f_code.co_filename).relative_to(LIBRARY)}: {frame.f_code.co_name}")
        return super().__torch_dispatch__(function, types, args, kwargs)


@pytest.mark.parametrize("name", CASES)
def test_a_training_step_waits_for_no_number(name):
    case = CASES[name]
    model, batch = case.new(), case.examples[:64]
    model.train()
    model.compute_loss(batch, training=True)
    optimizer = rr.optim.Adagrad(lr=0.01).build(model.named_parameters())
    with Waits() as found:
        model.train_step(batch, optimizer, clip_norm=1.0)
    assert found.places - LOOKS_ON_CPU == WAITS_ANYWHERE.get(name, set())
