"""The plainest way to serve a bundle by hand: FastAPI, pydantic, one call of `recommend` per request.

`python -m benchmarks.servers.plain_retrank BUNDLE PORT`
"""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

import retrank as rr

recommender = rr.Recommender.load(sys.argv[1])
app = FastAPI()


class Ask(BaseModel):
    """A query."""

    query: str | int
    k: int = 10


class Item(BaseModel):
    """A candidate."""

    key: str | int
    score: float


@app.post("/recommend")
def recommend(ask: Ask) -> list[Item]:
    """Answer one request."""
    rows = recommender.recommend(ask.query, k=ask.k)
    return [Item(key=key, score=score) for key, score in rows.select(recommender.candidate, "score").iter_rows()]


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
