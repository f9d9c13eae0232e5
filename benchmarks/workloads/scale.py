"""The size of a shop: evaluation over 100,000 candidates, EASE, softmax over samples and films, synthetic worlds."""

from collections.abc import Callable
from functools import partial
from itertools import count, pairwise
from typing import Any

from benchmarks.environments import FOLDER
from benchmarks.workload import Case, Contender, Goal, Job, Tick, Workload, repeated

EVENTS, QUERIES, CANDIDATES, ASKED = 5_000_000, 200_000, 100_000, 20_000
TRAIN, TEST = FOLDER / "data" / "scale_train.parquet", FOLDER / "data" / "scale_test.parquet"
DIM, LONGEST_LIST = 32, 20
EASE_QUERIES, EASE_CANDIDATES, EASE_EVENTS, EASE_L2 = 50_000, 12_000, 1_000_000, 500.0
COLUMNS, ASKED_OF_EASE = 16, 50  # compared with float64
BATCH, DRAWN, STEPS = 8192, 1024, 8
FILMS, FILM_BATCH, FILM_STEPS, LAYERS = 9_700, 1024, 64, (64, 32)
BLOCKS = ((256, 1024), (128, 1024), (64, 1024), (1024, 1024))


def save_events() -> None:
    """Write a synthetic world's events, once: the last of 20,000 queries to test on, all others to train on."""
    import numpy as np
    import polars as pl

    import retrank as rr

    if TEST.exists():
        return
    world = rr.datasets.synthetic(QUERIES, CANDIDATES, EVENTS, seed=0)
    rows = world.interactions.select("query_id", "candidate_id", "timestamp")
    last = rows.with_row_index("row").group_by("query_id").agg(pl.col("row").last()).sort("query_id")["row"]
    is_test = np.zeros(EVENTS, bool)
    is_test[np.random.default_rng(0).permutation(last.to_numpy())[:ASKED]] = True
    TRAIN.parent.mkdir(parents=True, exist_ok=True)
    rows.filter(~is_test).write_parquet(TRAIN)
    rows.filter(is_test).write_parquet(TEST)


def evaluation(make: Callable[[Any], object]) -> Job:
    """Evaluate a system, fitting included if it is a baseline."""
    import polars as pl

    import retrank as rr

    train, test = pl.read_parquet(TRAIN), pl.read_parquet(TEST)
    system = make(train)
    return repeated(lambda: rr.evaluate({"system": system}, train, test, progress=False), 1)


def popularity(_: Any) -> object:
    import retrank as rr

    return rr.baselines.Popularity()


def item_knn(_: Any) -> object:
    import retrank as rr

    return rr.baselines.ItemKNN()


def two_tower(train: Any) -> object:
    """Return a recommender whose towers have learned nothing, which costs what one costs that has."""
    import polars as pl
    import torch

    import retrank as rr

    candidates = pl.DataFrame({"candidate_id": pl.Series(range(QUERIES, QUERIES + CANDIDATES))})
    kinds = {name: rr.features.Categorical() for name in ("query_id", "candidate_id")}
    space = rr.FeatureSpace(kinds).fit(train)
    torch.manual_seed(0)
    query, candidate = (rr.models.Tower(space, [name], layers=LAYERS, dim=DIM) for name in kinds)
    model = rr.models.TwoTower(query, candidate, rr.tasks.Retrieval())
    return rr.Recommender(retrieval=model, space=space, catalogue=candidates, history=train)


def product_and_best() -> Job:
    """Score every pair in blocks of queries, and keep the best of each."""
    import torch

    from benchmarks.limits import best_of

    queries, candidates = torch.randn(ASKED, DIM), torch.randn(CANDIDATES, DIM)

    @torch.inference_mode()
    def search(rows: int, some: torch.Tensor) -> None:
        for part in some.split(rows):
            (part @ candidates.T).topk(LONGEST_LIST)

    tried = best_of({str(rows): partial(search, rows, queries[:512]) for rows in (32, 64, 256)}, 1, trials=1)
    rows = int(tried.note)
    return repeated(partial(search, rows, queries), 1, note=f"blocks of {rows} queries")


def ease() -> Job:
    """Fit on one core, after some columns of a first fit have been compared with a solution in float64."""
    import torch

    import retrank as rr

    torch.set_num_threads(1)
    events = rr.datasets.synthetic(EASE_QUERIES, EASE_CANDIDATES, EASE_EVENTS, seed=0).interactions
    plays = events.select("query_id", "candidate_id")

    def fit() -> rr.baselines.EASE:
        return rr.baselines.EASE(EASE_L2).fit(plays, progress=False)

    difference = distance_from_solution(fit(), plays)
    return repeated(fit, 1, note=f"scores within {difference:.0e} of float64")


def distance_from_solution(fitted: Any, plays: Any) -> float:
    """Return the largest difference of some scores of EASE from what plain conjugate gradients in float64 give."""
    import numpy as np
    import polars as pl
    import torch

    import retrank as rr

    matrix = rr.baselines.InteractionMatrix.build(plays)
    size, chosen = len(matrix.candidates), np.unique(np.linspace(0, len(matrix.candidates) - 1, COLUMNS).astype(int))
    places = torch.stack([matrix.seen.row_index(), matrix.seen.values])
    ones = torch.ones(places.shape[1], dtype=torch.float64)
    events = torch.sparse_coo_tensor(places, ones, matrix.shape, check_invariants=True).coalesce()
    transposed = events.T.coalesce()
    wanted = torch.zeros(size, len(chosen), dtype=torch.float64)
    wanted[chosen, range(len(chosen))] = 1
    inverse = conjugate_gradients(lambda part: transposed @ (events @ part) + EASE_L2 * part, wanted)
    weights = -inverse / inverse[chosen, range(len(chosen))]
    weights[chosen, range(len(chosen))] = 0
    solution = (events @ weights)[:ASKED_OF_EASE].numpy()
    asked = pl.DataFrame({matrix.query: matrix.queries[:ASKED_OF_EASE]})
    scores = fitted.recommend_many(asked, k=size, exclude_seen=False)
    given = np.empty((len(asked), size), np.float32)
    rows = matrix.rows(scores[matrix.query]).numpy()
    columns = {key: column for column, key in enumerate(matrix.candidates)}
    given[rows, [columns[key] for key in scores[matrix.candidate]]] = scores["score"].to_numpy()
    return float(np.abs(given[:, chosen] - solution).max())


def conjugate_gradients(product: Callable[[Any], Any], wanted: Any, steps: int = 1000) -> Any:
    """Solve `product(x) = wanted`, column by column, for a symmetric and positive definite product."""
    import torch

    found, residual = torch.zeros_like(wanted), wanted.clone()
    direction, size = residual.clone(), residual.square().sum(dim=0)
    for _ in range(steps):
        moved = product(direction)
        step = size / (direction * moved).sum(dim=0)
        found, residual = found + step * direction, residual - step * moved
        size, before = residual.square().sum(dim=0), size
        if float(size.max()) < 1e-24:
            break
        direction = residual + size / before * direction
    return found


def sampled(make: Callable[[Any], object]) -> Job:
    """Train vectors of queries and candidates with negatives that are drawn."""
    import polars as pl
    import torch

    import retrank as rr
    from benchmarks.workloads.ours import epochs

    torch.manual_seed(0)
    rows = pl.read_parquet(TRAIN, n_rows=BATCH * STEPS)
    space = rr.FeatureSpace({name: rr.features.Categorical() for name in ("query_id", "candidate_id")}).fit(rows)
    model = rr.models.MatrixFactorization(
        space.schema["query_id"],
        space.schema["candidate_id"],
        rr.tasks.Retrieval(log_q=True, remove_accidental_hits=True),
        dim=2 * DIM,
        bias=False,
        space=space,
        negatives=make(space),
    )
    return epochs(model, space.loader(rows, BATCH, shuffle=True), rr.optim.LazyAdam(lr=0.001), STEPS)


def drawn_by_popularity(_: Any) -> object:
    import retrank as rr

    return rr.sampling.Popularity(DRAWN)


def drawn_uniformly(_: Any) -> object:
    import retrank as rr

    return rr.sampling.Uniform(DRAWN)


def drawn_by_both(_: Any) -> object:
    import retrank as rr

    return rr.sampling.Mixed([rr.sampling.Popularity(DRAWN // 2), rr.sampling.Uniform(DRAWN // 2)])


def kept_of_earlier_batches(space: Any) -> object:
    import retrank as rr

    return rr.sampling.CrossBatch(DRAWN, counts=space.vocabulary("candidate_id").counts)


def products_with(candidates: int, batch: int, dim: int, steps: int, dense_rows: int = 0) -> Job:
    """Do a softmax's products and exponentials, and the products of dense layers over some rows, in plain torch."""
    import torch

    from benchmarks.limits import best_of, products, softmax_blocks

    queries, others = torch.randn(batch, dim), torch.randn(candidates, dim) / 10
    blocks = {f"blocks of {a} x {b}": partial(softmax_blocks, queries, others, (a, b)) for a, b in BLOCKS}
    tried = best_of(blocks, 1)
    shapes = [(dense_rows, inputs, width) for inputs, width in pairwise((3 * DIM, *LAYERS))] if dense_rows else []
    layers = products(shapes, 1)

    def loop(tick: Tick) -> None:
        done = count(1)

        def softmax() -> None:
            blocks[tried.note]()
            if next(done) % steps == 0:
                tick()

        layers.loop(softmax)

    return Job(loop, steps, tried.note)


def films(negatives: str) -> Job:
    """Train two towers on films with titles and genres."""
    import numpy as np
    import polars as pl
    import torch

    import retrank as rr
    from benchmarks.workloads.ours import epochs

    rng = np.random.default_rng(0)

    def by_zipf(count: int, size: int) -> np.ndarray:
        return np.minimum(np.exp(rng.random(size) * np.log(count)).astype(int), count - 1)

    table = pl.DataFrame(
        {
            "film": np.arange(FILMS),
            "title": [" ".join(f"word{word}" for word in by_zipf(9_000, rng.integers(2, 9))) for _ in range(FILMS)],
            "genres": [[f"genre{g}" for g in rng.choice(19, rng.integers(1, 4), replace=False)] for _ in range(FILMS)],
        }
    )
    rows = FILM_BATCH * FILM_STEPS
    seen = pl.DataFrame({"user": rng.integers(0, 600, rows), "film": by_zipf(FILMS, rows)})
    kinds = {
        "user": rr.features.Categorical(),
        "film": rr.features.Categorical(),
        "title": rr.features.Text(max_length=8),
        "genres": rr.features.CategoricalList(),
    }
    everything = pl.concat([seen.join(table, on="film"), table.with_columns(user=pl.lit(0))], how="diagonal_relaxed")
    space = rr.FeatureSpace(kinds).fit(everything)
    torch.manual_seed(0)
    model = rr.models.TwoTower(
        rr.models.Tower(space, ["user"], layers=LAYERS, dim=DIM),
        rr.models.Tower(space, ["film", "title", "genres"], layers=LAYERS, dim=DIM),
        rr.tasks.Retrieval(),
        catalogue=space.catalogue(table, key="film"),
        negatives=negatives,
    )
    train = space.loader(everything[:rows], FILM_BATCH, shuffle=True)
    return epochs(model, train, rr.optim.LazyAdam(lr=0.005), FILM_STEPS)


def synthetic() -> Job:
    import retrank as rr

    return repeated(lambda: rr.datasets.synthetic(QUERIES, CANDIDATES, EVENTS, seed=0), 1)


def draws() -> Job:
    """Draw a number and read a vector for each candidate that is shown: 32 for each event, in NumPy."""
    import numpy as np

    rng, shown = np.random.default_rng(0), 32 * EVENTS
    vectors, block = rng.random((CANDIDATES, 8), dtype=np.float32), 2**16
    rows = rng.integers(CANDIDATES, size=block)

    def draw() -> None:
        for _ in range(0, shown, block):
            rng.random(block)
            vectors.take(rows, axis=0, mode="clip")

    return repeated(draw, 1)


POPULARITY, KNN, TOWER = "retrank, popularity", "retrank, item-kNN", "retrank, two-tower"
PRODUCT = "limit: product and topk in blocks"
BY_POPULARITY, UNIFORM, MIXED = "retrank, Popularity", "retrank, Uniform", "retrank, Mixed of both"
EARLIER, STEP = "retrank, CrossBatch", "limit: products and exponentials"
ALL_FILMS, IN_BATCH, FILM_STEP = "retrank, all films", "retrank, in-batch", "limit: products with all films"
OURS = ("torch", "retrank")

WORKLOAD = Workload(
    "scale",
    "At a shop's size",
    [
        Case(
            "evaluate",
            "rr.evaluate: 5,000,000 events, lists of 20 for 20,000 queries out of 100,000 candidates",
            "evaluations",
            [
                Contender(TOWER, partial(evaluation, two_tower), "ours", libraries=OURS),
                Contender(POPULARITY, partial(evaluation, popularity), "ours", libraries=OURS),
                Contender(KNN, partial(evaluation, item_knn), "ours", libraries=OURS),
                Contender(PRODUCT, product_and_best, "limit"),
            ],
            [
                Goal(TOWER, PRODUCT, rate=0.5),
                Goal(POPULARITY, processor_seconds_each=10.0),
                *(Goal(name, memory_bytes=2e9) for name in (TOWER, POPULARITY, KNN)),
            ],
            note="Baselines are fitted each time. Memory includes the events, 0.2 GB. Towers end in vectors of 32.",
            warm_ups=0,
            repeats=3,
        ),
        Case(
            "ease",
            "EASE on 12,000 candidates, 1,000,000 events, on one core",
            "fits",
            [Contender("retrank", ease, "ours", libraries=OURS)],
            [Goal("retrank", processor_seconds_each=60.0), Goal("retrank", memory_bytes=1.5e9)],
            warm_ups=0,
            repeats=1,
        ),
        Case(
            "sampled_softmax",
            "Training with 1,024 negatives drawn, batch 8,192, vectors of 64, LazyAdam",
            "steps",
            [
                Contender(BY_POPULARITY, partial(sampled, drawn_by_popularity), "ours", libraries=OURS),
                Contender(UNIFORM, partial(sampled, drawn_uniformly), "ours", libraries=OURS),
                Contender(MIXED, partial(sampled, drawn_by_both), "ours", libraries=OURS),
                Contender(EARLIER, partial(sampled, kept_of_earlier_batches), "ours", libraries=OURS),
                Contender(STEP, partial(products_with, DRAWN, BATCH, 2 * DIM, STEPS), "limit"),
            ],
            [Goal(name, STEP, rate=1 / 1.5) for name in (BY_POPULARITY, UNIFORM, MIXED, EARLIER)],
        ),
        Case(
            "catalogue_softmax",
            "Training two towers on 9,700 films with titles and genres, batch 1,024",
            "steps",
            [
                Contender(ALL_FILMS, partial(films, "catalogue"), "ours", libraries=OURS),
                Contender(IN_BATCH, partial(films, "in_batch"), "ours", libraries=OURS),
                Contender(
                    FILM_STEP, partial(products_with, FILMS, FILM_BATCH, DIM, FILM_STEPS, dense_rows=FILMS), "limit"
                ),
            ],
            [Goal(ALL_FILMS, FILM_STEP, rate=1 / 1.5)],
            note="The limit embeds all films and scores them: those products alone are several in-batch steps.",
        ),
        Case(
            "synthetic",
            "A synthetic world of 5,000,000 interactions, 200,000 queries and 100,000 candidates",
            "worlds",
            [
                Contender("retrank", synthetic, "ours", libraries=OURS),
                Contender("limit: random numbers and reads of vectors", draws, "limit"),
            ],
            [Goal("retrank", processor_seconds_each=5.0)],
            note="Each interaction chooses among 32 candidates that are drawn for it.",
            warm_ups=0,
            repeats=3,
        ),
    ],
    prepare=save_events,
)
