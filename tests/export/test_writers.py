"""The writers of docs/export.md, against the databases that are there."""

import contextlib
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.export import world

import retrank as rr

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
pytestmark = pytest.mark.filterwarnings("ignore")  # of the clients


@pytest.fixture(scope="module")
def writers():
    """Run those snippets that define writers."""
    names = {"rr": rr, "pl": pl}
    for snippet in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        if "def to_" in snippet:
            exec(snippet, names)
    return names


@pytest.fixture(scope="module")
def recommender():
    return world.serve()


@pytest.fixture
def batches_of_40(monkeypatch):
    vectors = rr.export.vectors
    monkeypatch.setattr(rr.export, "vectors", lambda recommender: vectors(recommender, batch_size=40))


@pytest.fixture
def asked(recommender):
    """A vector to ask with, and the keys that must come."""
    batch = next(rr.export.vectors(recommender, batch_size=100))
    order = np.argsort(-(batch.vectors @ batch.vectors[7]))[:5]
    return batch.vectors[7].tolist(), [batch.keys[int(row)] for row in order]


def test_qdrant(writers, recommender, asked, batches_of_40):
    client = pytest.importorskip("qdrant_client").QdrantClient(":memory:")
    writers["to_qdrant"](recommender, client, "songs")
    found = client.query_points("songs", query=asked[0], limit=5).points
    assert [point.payload["key"] for point in found] == asked[1]
    assert found[0].payload["year"] == recommender.candidates.row(by_predicate=pl.col("song") == asked[1][0])[1]
    assert client.count("songs").count == world.SONGS


def test_lancedb(writers, recommender, asked, batches_of_40, tmp_path):
    database = pytest.importorskip("lancedb").connect(str(tmp_path / "lance"))
    writers["to_lancedb"](recommender, database, "songs")
    table = database.open_table("songs")
    assert table.count_rows() == world.SONGS
    found = table.search(asked[0]).distance_type("dot").limit(5).to_list()
    assert [row["song"] for row in found] == asked[1]


def test_milvus(writers, recommender, asked, batches_of_40, tmp_path):
    pytest.importorskip("milvus_lite")
    client = pytest.importorskip("pymilvus").MilvusClient(str(tmp_path / "milvus.db"))
    writers["to_milvus"](recommender, client, "songs")
    (found,) = client.search("songs", data=[asked[0]], limit=5, output_fields=["year"])
    assert [hit["key"] for hit in found] == asked[1]
    client.close()


class Recorder:
    """A connection that keeps what it is told."""

    def __init__(self):
        self.executed, self.rows = [], []

    @contextlib.contextmanager
    def cursor(self):
        yield self

    @contextlib.contextmanager
    def copy(self, statement):
        self.executed.append(statement.as_string(None))
        yield self

    def execute(self, statement):
        self.executed.append(statement.as_string(None))

    def write_row(self, row):
        self.rows.append(row)


def test_pgvector_is_told_tables_and_rows(writers, recommender, batches_of_40):
    pytest.importorskip("psycopg")
    connection = Recorder()
    writers["to_pgvector"](recommender, connection, 'so"ngs')
    width = next(rr.export.vectors(recommender)).vectors.shape[1]
    create = f'CREATE TABLE IF NOT EXISTS "so""ngs" (key text PRIMARY KEY, vector vector({width}), payload jsonb)'
    assert connection.executed == [create, 'COPY "so""ngs" FROM STDIN'] * 3
    assert [row[0] for row in connection.rows] == world.KEYS


def test_pgvector(writers, recommender, asked, batches_of_40, monkeypatch):
    psycopg = pytest.importorskip("psycopg")
    try:
        connection = psycopg.connect("")  # of the environment: PGHOST and others
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except psycopg.Error as error:
        pytest.skip(f"no PostgreSQL with pgvector at PGHOST: {error}")
    with connection, connection.transaction(force_rollback=True):
        writers["to_pgvector"](recommender, connection, "retrank_test_songs")
        nearest = "SELECT key FROM retrank_test_songs ORDER BY vector <#> %s::vector LIMIT 5"
        assert [key for (key,) in connection.execute(nearest, [str(asked[0])])] == asked[1]
