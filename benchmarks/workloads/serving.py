"""Requests to a recommender: one at a time, among many known queries, over many candidates, in bulk; and its start."""

from collections.abc import Callable
from functools import partial

from benchmarks.environments import FOLDER
from benchmarks.workload import Case, Contender, Goal, Job, Workload, repeated

BUNDLE, LARGE_BUNDLE = FOLDER / "data" / "serving_bundle", FOLDER / "data" / "large_serving_bundle"
REQUESTS, K, DEPTH, TIMES_ALL, CLUSTERS = 200, 10, 100, 20, 1_000
MILLION, DIM = 1_000_000, 64
EVENTS, QUERIES, CANDIDATES = 5_000_000, 200_000, 100_000


def save_bundles() -> None:
    """Train the quickstart's recommender and build a large one, once; needs retrank."""
    import retrank as rr
    from retrank.cli.config import quickstart_config
    from retrank.cli.pipeline import Pipeline

    if not BUNDLE.exists():
        pipeline = Pipeline(quickstart_config())
        pipeline.train(pipeline.load(), seed=0).save(BUNDLE)
    if not LARGE_BUNDLE.exists():
        table, songs, (space, model) = world(EVENTS, QUERIES, CANDIDATES, text=True)
        rr.Recommender(retrieval=model, space=space, catalogue=songs, history=table).save(LARGE_BUNDLE)


def one_thread() -> None:
    """Measure the processor's time: threads would only hide it."""
    import torch

    torch.set_num_threads(1)


def loaded(*, ranked: bool) -> object:
    """Return the recommender of MovieLens-100K."""
    import retrank as rr

    recommender = rr.Recommender.load(BUNDLE)
    return recommender if ranked else recommender.without_ranking()


def requests(*, ranked: bool) -> Job:
    one_thread()
    recommender = loaded(ranked=ranked)
    keys = recommender.queries.index.keys.to_list()[:REQUESTS]

    def ask() -> None:
        for key in keys:
            recommender.recommend({recommender.query: key}, k=K)

    return repeated(ask, len(keys))


def bulk(*, ranked: bool) -> Job:
    import polars as pl

    one_thread()
    recommender = loaded(ranked=ranked)
    everyone = pl.DataFrame([recommender.queries.index.keys])
    return repeated(lambda: recommender.recommend_many(everyone, k=K), len(everyone))


def to_file(workers: int | None) -> Job:
    """Write the lists of all users, many times over, into a Parquet file; the bundle is loaded each time."""
    import polars as pl

    import retrank as rr

    recommender = loaded(ranked=True)
    users = pl.concat([recommender.queries.index.keys] * TIMES_ALL).to_frame(recommender.query)
    asked, out = BUNDLE.with_name("bulk_users.parquet"), BUNDLE.with_name(f"bulk_lists_{workers}.parquet")
    users.write_parquet(asked)
    return repeated(lambda: rr.recommender.recommend_to_file(BUNDLE, out, asked, K, workers=workers), len(users))


def arithmetic(*, ranked: bool, lists: int = 1) -> Job:
    """Do the products of a request in plain torch: of the query's tower, the catalogue, and the ranking."""
    import torch

    one_thread()
    recommender = loaded(ranked=True)
    catalogue = torch.randn(len(recommender.catalogue), DIM)
    towers = [weight for weight in recommender.retrieval.query.parameters() if weight.dim() == 2 and len(weight) <= 128]
    ranks = [weight for weight in recommender.ranking.parameters() if weight.dim() == 2 and len(weight) <= 128]
    inputs = [torch.randn(lists, weight.shape[1]) for weight in towers]
    pairs = [torch.randn(lists * DEPTH, weight.shape[1]) for weight in ranks]
    query = torch.randn(lists, DIM)

    @torch.inference_mode()
    def multiply() -> None:
        for _ in range(REQUESTS // lists):
            for rows, weight in zip(inputs, towers, strict=True):
                rows @ weight.T
            (query @ catalogue.T).topk(DEPTH if ranked else K)
            for rows, weight in zip(pairs, ranks, strict=True) if ranked else ():
                rows @ weight.T

    return repeated(multiply, REQUESTS // lists * lists)


def world(
    events: int, queries: int, candidates: int, *, text: bool = False, clusters: int = 0
) -> tuple[object, object, object]:
    """Return a table of events and one of candidates, and a model of a random vector each, in clusters if wanted."""
    import numpy as np
    import polars as pl
    import torch

    import retrank as rr

    rng = np.random.default_rng(0)
    table = pl.DataFrame(
        {
            "query": rng.integers(0, queries, events),
            "candidate": rng.integers(0, candidates, events),
            "time": rng.integers(0, 10**9, events),
        }
    )
    songs = pl.DataFrame({"candidate": np.arange(candidates), "year": np.arange(candidates) % 100})
    known = pl.DataFrame({"query": np.arange(queries)})
    if text:
        table = table.with_columns(
            pl.format("user {}", "query").alias("query"), pl.format("song {}", "candidate").alias("candidate")
        )
        songs = songs.with_columns(pl.format("song {}", "candidate").alias("candidate"))
        known = known.with_columns(pl.format("user {}", "query").alias("query"))
    space = rr.FeatureSpace({"query": rr.features.Categorical(), "candidate": rr.features.Categorical()})
    both = {"query": known["query"], "candidate": songs["candidate"]}
    longest = max(len(known), len(songs))
    filled = {name: keys.extend_constant(keys[0], longest - len(keys)) for name, keys in both.items()}
    space.fit(pl.DataFrame(filled))
    torch.manual_seed(0)
    model = rr.models.MatrixFactorization(
        space.schema["query"], space.schema["candidate"], rr.tasks.Retrieval(), dim=DIM - 1
    )
    with torch.no_grad():
        centres = torch.randn(clusters, DIM - 1)
        for table_ in (model.query, model.candidate):
            table_.weight.normal_()
            if clusters:
                table_.weight.mul_(0.7).add_(centres[torch.randint(clusters, (len(table_.weight),))])
    return table, songs, (space, model)


def serving(events: int, queries: int, candidates: int) -> object:
    """Return a recommender of random vectors."""
    import retrank as rr

    table, songs, (space, model) = world(events, queries, candidates)
    return rr.Recommender(retrieval=model, space=space, catalogue=songs, history=table)


def among(events: int, queries: int) -> Job:
    one_thread()
    recommender = serving(events, queries, 2_000)

    def ask() -> None:
        for key in range(REQUESTS):
            recommender.recommend({"query": key * 5}, k=K)

    return repeated(ask, REQUESTS)


def large(rules: Callable[[], dict[str, object]], *, clusters: int = 0, exact: bool = True) -> Job:
    import retrank as rr

    one_thread()
    table, songs, (space, model) = world(200_000, 10_000, MILLION, clusters=clusters)
    index = model.build_index(space.catalogue(songs, key="candidate")) if exact else None
    recommender = rr.Recommender(retrieval=model, space=space, catalogue=songs, history=table, index=index)
    arguments, facts = rules(), recommender.card.facts.get("index")

    def ask() -> None:
        for key in range(5):
            recommender.recommend({"query": key}, k=K, **arguments)

    note = "" if facts is None else f"{facts['factory']}, recall@10 {facts['recall@10']}, @100 {facts['recall@100']}"
    return repeated(ask, 5, note)


def nothing() -> dict[str, object]:
    return {}


def half_by_condition() -> dict[str, object]:
    import polars as pl

    return {"where": pl.col("year") < 50}


def half_by_keys() -> dict[str, object]:
    import numpy as np
    import polars as pl

    return {"allow": pl.Series(np.flatnonzero(np.arange(MILLION) % 100 < 50))}


def reading() -> Job:
    """Read the embeddings once: the faster of their sum and their product with a vector."""
    import torch

    from benchmarks.limits import best_of

    one_thread()
    embeddings, query = torch.randn(MILLION, DIM), torch.randn(DIM)
    ways = {"sum": embeddings.sum, "product with a vector": partial(torch.mv, embeddings, query)}
    return best_of({name: partial(_times, way, 5) for name, way in ways.items()}, 5)


def _times(way: Callable[[], object], count: int) -> None:
    for _ in range(count):
        way()


def build() -> Job:
    import retrank as rr

    one_thread()
    table, songs, (space, model) = world(EVENTS, QUERIES, CANDIDATES, text=True)
    return repeated(lambda: rr.Recommender(retrieval=model, space=space, catalogue=songs, history=table), 1)


def load() -> Job:
    """Load what another process built and saved, so that its memory is not counted."""
    import retrank as rr

    one_thread()
    return repeated(lambda: rr.Recommender.load(LARGE_BUNDLE), 1)


TOWER, STAGES = "retrank, two-tower", "retrank, two-stage"
TOWER_LIMIT, STAGES_LIMIT = "limit: products of two towers", "limit: products of both stages"
FEW, MANY = "retrank, 1,000 known queries", "retrank, 1,000,000 known queries and 50,000,000 events"
ALL, WHERE, ALLOW = "retrank, all candidates", "retrank, a condition keeps half", "retrank, an allow-list keeps half"
READ = "limit: reading the embeddings once"
CHOSEN, CHOSEN_WHERE = "retrank, the index that is chosen", "retrank, the index that is chosen, a condition keeps half"
ONE_WORKER, ALL_CORES = "retrank, one worker", "retrank, a worker for each core"
OURS = ("torch", "retrank")

WORKLOAD = Workload(
    "serving",
    "Serving",
    [
        Case(
            "request",
            "MovieLens-100K, one request for 10 at a time, on one core",
            "requests",
            [
                Contender(TOWER, partial(requests, ranked=False), "ours", libraries=OURS),
                Contender(STAGES, partial(requests, ranked=True), "ours", libraries=OURS),
                Contender(TOWER_LIMIT, partial(arithmetic, ranked=False), "limit"),
                Contender(STAGES_LIMIT, partial(arithmetic, ranked=True), "limit"),
            ],
            [Goal(TOWER, seconds_each=0.7e-3), Goal(STAGES, seconds_each=1.5e-3)],
            note="The bundle of the quickstart: 943 users, 1,682 movies, 100 of them ranked.",
        ),
        Case(
            "bulk",
            "MovieLens-100K, all 943 users in one call, on one core",
            "queries",
            [
                Contender(TOWER, partial(bulk, ranked=False), "ours", libraries=OURS),
                Contender(STAGES, partial(bulk, ranked=True), "ours", libraries=OURS),
                Contender(TOWER_LIMIT, partial(arithmetic, ranked=False, lists=50), "limit"),
                Contender(STAGES_LIMIT, partial(arithmetic, ranked=True, lists=50), "limit"),
            ],
        ),
        Case(
            "known_queries",
            "2,000 candidates x 64, one request at a time, on one core",
            "requests",
            [
                Contender(FEW, partial(among, 50_000, 1_000), "ours", libraries=OURS),
                Contender(MANY, partial(among, 50_000_000, MILLION), "ours", libraries=OURS),
            ],
            [Goal(MANY, FEW, rate=1 / 1.2)],
        ),
        Case(
            "large_catalogue",
            "1,000,000 candidates x 64, one exact request at a time, on one core",
            "requests",
            [
                Contender(ALL, partial(large, nothing), "ours", libraries=OURS),
                Contender(WHERE, partial(large, half_by_condition), "ours", libraries=OURS),
                Contender(ALLOW, partial(large, half_by_keys), "ours", libraries=OURS),
                Contender(READ, reading, "limit"),
            ],
            [Goal(ALL, READ, rate=1 / 1.5), Goal(WHERE, ALL, rate=0.95), Goal(ALLOW, ALL, rate=0.95)],
        ),
        Case(
            "index_choice",
            "1,000,000 candidates x 64 in 1,000 clusters, one request at a time, on one core",
            "requests",
            [
                Contender(CHOSEN, partial(large, nothing, clusters=CLUSTERS, exact=False), "ours", libraries=OURS),
                Contender(
                    CHOSEN_WHERE,
                    partial(large, half_by_condition, clusters=CLUSTERS, exact=False),
                    "ours",
                    libraries=OURS,
                ),
                Contender(ALL, partial(large, nothing, clusters=CLUSTERS), "ours", libraries=OURS),
            ],
            [Goal(CHOSEN, ALL, rate=3.0)],
        ),
        Case(
            "bulk_file",
            "MovieLens-100K, two-stage lists for 18,860 queries into a Parquet file",
            "queries",
            [
                Contender(ONE_WORKER, partial(to_file, 1), "ours", libraries=OURS),
                Contender(ALL_CORES, partial(to_file, None), "ours", libraries=OURS),
            ],
            note="With the time that it takes to load the bundle.",
        ),
        Case(
            "start",
            "A recommender of 5,000,000 events, 200,000 queries and 100,000 candidates x 64, keys of text, on one core",
            "starts",
            [
                Contender("retrank, build", build, "ours", libraries=OURS),
                Contender("retrank, load", load, "ours", libraries=OURS),
            ],
            [
                Goal("retrank, build", seconds_each=3.0),
                Goal("retrank, load", seconds_each=3.0),
                Goal("retrank, load", memory_bytes=0.8e9),
            ],
            note="The memory of building includes the tables that it is built from.",
            warm_ups=0,
        ),
    ],
    prepare=save_bundles,
)
