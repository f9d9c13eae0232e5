"""Evaluation against a large corpus: the rank of each query's positive among all candidates, and lists of the best."""

from collections.abc import Sequence
from functools import partial

from benchmarks import data
from benchmarks.workload import Case, Contender, Goal, Job, Workload, repeated

SHAPES = ((1024, 1024), (512, 1024), (512, 2048), (256, 4096), (2048, 512), (1024, 2048))
SEEN, TOP = 50, 100


def rank(candidates: int, queries: int, ks: Sequence[int] = (10,), metrics: Sequence[str] = ("hit_rate",)) -> Job:
    import torch

    import retrank as rr

    q, c, positives = map(torch.from_numpy, data.corpus(candidates, queries))

    def evaluate() -> None:
        metric = rr.metrics.FullCorpusTopK(ks=ks, metrics=metrics)
        metric.update(q, c, positives)
        metric.compute()

    return repeated(evaluate, queries)


def rank_unseen(candidates: int, queries: int) -> Job:
    import torch

    import retrank as rr

    q, c, positives = map(torch.from_numpy, data.corpus(candidates, queries))
    seen = torch.randint(candidates, (queries * SEEN,), generator=torch.Generator().manual_seed(0))
    exclude = rr.Jagged.from_lengths(seen, torch.full((queries,), SEEN))

    def evaluate() -> None:
        metric = rr.metrics.FullCorpusTopK(ks=(10, 100))
        metric.update(q, c, positives, exclude=exclude)
        metric.compute()

    return repeated(evaluate, queries, note="hit rate and NDCG at 10 and 100, MRR")


def top(candidates: int, queries: int) -> Job:
    import torch

    import retrank as rr

    q, c, _ = map(torch.from_numpy, data.corpus(candidates, queries))
    index = rr.index.Exact(c)
    return repeated(lambda: index.search_rows(q, TOP), queries)


def tfrs(candidates: int, queries: int, *, streaming: bool, batch: int = 1024) -> Job:
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    q, c, positives = data.corpus(candidates, queries)
    found: object = tf.data.Dataset.from_tensor_slices(c).batch(4096).cache()
    if not streaming:
        found = tfrs.layers.factorized_top_k.BruteForce(k=TOP).index(c)
    metric = tfrs.metrics.FactorizedTopK(candidates=found)
    starts = range(0, queries, batch)
    parts = [tuple(tf.constant(x[start : start + batch]) for x in (q, c[positives])) for start in starts]

    @tf.function  # as within Model.evaluate
    def update(some: object, true: object) -> None:
        metric.update_state(some, true)

    def evaluate() -> None:
        for part in parts:
            update(*part)

    return repeated(evaluate, queries)


def keras_rs(candidates: int, queries: int, batch: int = 1024) -> Job:
    import keras
    import keras_rs

    q, c, _ = data.corpus(candidates, queries)
    inputs = keras.Input((q.shape[1],))
    layer = keras_rs.layers.BruteForceRetrieval(candidate_embeddings=c, k=TOP, return_scores=True)
    model = keras.Model(inputs, layer(inputs))
    return repeated(lambda: model.predict(q, batch_size=batch, verbose=0), queries)


def torch_top(candidates: int, queries: int, batches: Sequence[int] = (32, 64, 256)) -> Job:
    import torch

    from benchmarks.limits import best_of

    q, c, _ = map(torch.from_numpy, data.corpus(candidates, queries))

    @torch.inference_mode()
    def search(batch: int) -> None:
        for some in q.split(batch):
            (some @ c.T).topk(TOP)

    return best_of({f"{batch} queries at once": partial(search, batch) for batch in batches}, queries, trials=1)


def limit(candidates: int, queries: int, *, counting: bool = False) -> Job:
    import torch

    from benchmarks.limits import best_of, blocked_scores

    q, c, _ = map(torch.from_numpy, data.corpus(candidates, queries))
    use = (lambda scores: scores.gt_(0.5).sum(dim=1)) if counting else id
    ways = {
        f"blocks of {rows} x {columns}": partial(blocked_scores, q, c, (rows, columns), use) for rows, columns in SHAPES
    }
    return best_of(ways, queries)


RANK = "retrank, ranks"
UNSEEN = "retrank, ranks without seen items, five metrics"
LISTS = "retrank, lists of 100"
BRUTE = "TFRS, FactorizedTopK with BruteForce"
LIMIT = "limit: products in blocks"
OURS, TFRS = ("torch", "retrank"), ("tensorflow", "tensorflow_recommenders")


def contenders(candidates: int, ours: int, theirs: int, streaming: int) -> list[Contender]:
    """Return all of them; the slower get fewer queries."""
    return [
        Contender(RANK, partial(rank, candidates, ours), "ours", libraries=OURS),
        Contender(UNSEEN, partial(rank_unseen, candidates, ours), "ours", libraries=OURS),
        Contender(LISTS, partial(top, candidates, ours), "ours", libraries=OURS),
        Contender(BRUTE, partial(tfrs, candidates, theirs, streaming=False), environment="tfrs", libraries=TFRS),
        Contender(
            "TFRS, FactorizedTopK with Streaming",
            partial(tfrs, candidates, streaming, streaming=True),
            environment="tfrs",
            libraries=TFRS,
        ),
        Contender(
            "Keras-RS on JAX, BruteForceRetrieval",
            partial(keras_rs, candidates, theirs),
            environment="keras-rs",
            libraries=("jax", "keras", "keras_rs"),
        ),
        Contender("plain torch, product and topk", partial(torch_top, candidates, theirs)),
        Contender(LIMIT, partial(limit, candidates, ours), "limit"),
        Contender(
            "limit: the same, compared in place and summed", partial(limit, candidates, ours, counting=True), "limit"
        ),
    ]


NOTE = (
    "Peers give lists of 100. Rates are per query: all of ours and the limits do {ours:,} queries a repeat, "
    "streaming {streaming:,} and the other peers {theirs:,}."
)
LARGE = {"ours": 8192, "theirs": 2048, "streaming": 1024}
HUGE = {"ours": 2048, "theirs": 1024, "streaming": 512}
WORKLOAD = Workload(
    "corpus_evaluation",
    "Evaluation against a large corpus",
    [
        Case(
            "100k",
            "100,000 candidates, vectors of 64",
            "queries",
            contenders(100_000, **LARGE),
            [
                Goal(RANK, LIMIT, rate=0.8),
                Goal(RANK, BRUTE, rate=4.5),
                Goal(UNSEEN, LIMIT, rate=0.7),
                Goal(LISTS, LIMIT, rate=0.6),
            ],
            note=NOTE.format(**LARGE),
        ),
        Case(
            "500k",
            "500,000 candidates, vectors of 64",
            "queries",
            contenders(500_000, **HUGE),
            [Goal(RANK, LIMIT, rate=0.75)],
            note=NOTE.format(**HUGE),
        ),
        Case(
            "scaling",
            "1,024 queries as the candidates grow, ranks",
            "queries",
            [
                Contender(
                    f"{RANK}, {candidates:,}",
                    partial(rank, candidates, 1024),
                    "ours",
                    libraries=("torch", "retrank"),
                    size=candidates,
                )
                for candidates in (20_000, 100_000, 500_000)
            ],
            grows="candidates",
        ),
    ],
)
