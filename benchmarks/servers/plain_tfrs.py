"""TensorFlow Recommenders' BruteForce, exported and loaded again, behind the plainest FastAPI handler.

`python -m benchmarks.servers.plain_tfrs FOLDER PORT`: exports to FOLDER if nothing is there.
"""

import sys
from pathlib import Path

import tensorflow as tf
import tensorflow_recommenders as tfrs
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

USERS, MOVIES, DIM = 943, 1_682, 64
app = FastAPI()


def export(folder: Path) -> None:
    """Write an index of random vectors, as the tutorial does for trained ones."""
    users = tf.keras.Sequential(
        [
            tf.keras.layers.StringLookup(vocabulary=[str(user + 1) for user in range(USERS)], mask_token=None),
            tf.keras.layers.Embedding(USERS + 1, DIM),
        ]
    )
    movies = tf.constant([str(movie + 1) for movie in range(MOVIES)])
    index = tfrs.layers.factorized_top_k.BruteForce(users, k=10)
    index.index(tf.random.normal((MOVIES, DIM)), movies)
    index(tf.constant(["42"]))
    tf.saved_model.save(index, str(folder))


class Ask(BaseModel):
    """A query."""

    query: str
    k: int = 10


class Item(BaseModel):
    """A candidate."""

    key: str
    score: float


@app.post("/recommend")
def recommend(ask: Ask) -> list[Item]:
    """Answer one request."""
    scores, keys = loaded(tf.constant([ask.query]))
    found = zip(keys[0, : ask.k].numpy(), scores[0, : ask.k].numpy(), strict=True)
    return [Item(key=key.decode(), score=float(score)) for key, score in found]


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if not place.exists():
        export(place)
    loaded = tf.saved_model.load(str(place))
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
