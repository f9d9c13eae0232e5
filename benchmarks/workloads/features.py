"""From a raw table to model inputs: learn vocabularies and statistics, then transform the same rows."""

from functools import partial

from benchmarks import data
from benchmarks.workload import Case, Contender, Goal, Job, Workload, repeated

ROWS, BINS, BATCH = 20_000_000, 10, 8192


def ours(rows: int) -> Job:
    import retrank as rr
    from benchmarks.workloads.ours import table

    frame = table(data.ratings(rows))

    def fit_and_transform() -> None:
        space = rr.FeatureSpace(
            {
                "user_id": rr.features.Categorical(),
                "movie_id": rr.features.Categorical(),
                "genre": rr.features.Categorical(),
                "rating": rr.features.Normalized(),
                "age": rr.features.Discretized(bins=BINS),
            }
        )
        space.fit(frame).transform(frame)

    return repeated(fit_and_transform, rows)


def keras_features(rows: int) -> Job:
    import tensorflow as tf
    from keras.utils import FeatureSpace

    table = tf.data.Dataset.from_tensor_slices(data.ratings(rows)).batch(BATCH).cache()
    for _ in table:  # fills the cache
        pass

    def fit_and_transform() -> None:
        space = FeatureSpace(
            {
                "user_id": FeatureSpace.integer_categorical(output_mode="int"),
                "movie_id": FeatureSpace.integer_categorical(output_mode="int"),
                "genre": FeatureSpace.string_categorical(output_mode="int"),
                "rating": FeatureSpace.float_normalized(),
                "age": FeatureSpace.float_discretized(num_bins=BINS, output_mode="int"),
            },
            output_mode="dict",
        )
        space.adapt(table)
        for _ in table.map(space, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2):
            pass

    return repeated(fit_and_transform, rows)


def scikit_learn(rows: int) -> Job:
    from sklearn.preprocessing import KBinsDiscretizer, OrdinalEncoder, StandardScaler

    table = {name: column[:, None] for name, column in data.ratings(rows).items()}
    table["genre"] = table["genre"].astype(object)

    def fit_and_transform() -> None:
        unknown = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
        kinds = {name: OrdinalEncoder(**unknown) for name in ("user_id", "movie_id", "genre")}
        kinds["rating"] = StandardScaler()
        kinds["age"] = KBinsDiscretizer(BINS, encode="ordinal", quantile_method="averaged_inverted_cdf")
        for name, kind in kinds.items():
            kind.fit(table[name])
            kind.transform(table[name])

    return repeated(fit_and_transform, rows)


def limit() -> Job:
    from benchmarks.limits import copies

    return copies(ROWS * (8 + 8 + 16 + 4 + 4 + 8 + 8 + 8 + 4 + 8), ROWS)


OURS, KERAS, SKLEARN = "retrank", "Keras FeatureSpace with tf.data", "scikit-learn"
WORKLOAD = Workload(
    "features",
    "Features of a raw table",
    [
        Case(
            "20m",
            "Fit and transform 20,000,000 rows: two columns of integer keys, one of text, one scaled, one in bins",
            "rows",
            [
                Contender(OURS, partial(ours, ROWS), "ours", libraries=("torch", "retrank")),
                Contender(
                    KERAS,
                    partial(keras_features, 200_000),
                    environment="keras-rs",
                    libraries=("jax", "tensorflow", "keras"),
                ),
                Contender(
                    SKLEARN, partial(scikit_learn, 1_000_000), environment="scikit-learn", libraries=("sklearn",)
                ),
                Contender("limit: columns read and written once", limit, "limit"),
            ],
            [Goal(OURS, KERAS, rate=10.0), Goal(OURS, SKLEARN, rate=2.0)],
            note=(
                "Rates are per row: Keras does a hundredth of the rows, scikit-learn a twentieth, "
                "which favours them where vocabularies and sorting grow."
            ),
        ),
        Case(
            "scaling",
            "The same as the rows grow",
            "rows",
            [
                Contender(f"{OURS}, {rows:,}", partial(ours, rows), "ours", libraries=("torch", "retrank"), size=rows)
                for rows in (200_000, 2_000_000, 10_000_000)
            ],
            grows="rows",
            repeats=3,
        ),
    ],
)
