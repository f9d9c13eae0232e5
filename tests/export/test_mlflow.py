"""Bundles as models of MLflow, in a store of local files."""

import polars as pl
import pytest
from tests.export import world

import retrank as rr

mlflow = pytest.importorskip("mlflow")
pytest.importorskip("pandas")

pytestmark = pytest.mark.filterwarnings("ignore")  # of MLflow, of its own stores and of pandas


@pytest.fixture(scope="module")
def recommender():
    return world.serve("reranker")


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    yield tmp_path / "runs"
    mlflow.set_tracking_uri(before)


def test_a_logged_model_recommends_as_the_recommender(recommender, store):
    with mlflow.start_run():
        logged = rr.export.mlflow.log_model(recommender)
    served = mlflow.pyfunc.load_model(logged.model_uri)
    users = pl.DataFrame({"user": ["u1", "stranger", "u7"]})
    assert served.predict(users.to_pandas()).equals(recommender.recommend_many(users.to_pandas()))
    found = served.predict(users.to_pandas(), params={"k": 3, "exclude_seen": False})
    assert found.equals(recommender.recommend_many(users.to_pandas(), 3, exclude_seen=False))
    loaded = rr.export.mlflow.load_model(logged.model_uri)
    assert loaded.recommend_many(users).equals(recommender.recommend_many(users))
    assert loaded.card == recommender.card


def test_queries_may_bring_features(recommender, store):
    with mlflow.start_run():
        logged = rr.export.mlflow.log_model(recommender)
    served = mlflow.pyfunc.load_model(logged.model_uri)
    queries = pl.DataFrame({"user": ["new", "u3"], "age": [30.0, 60.0], "recent": [["s1", "s2"], ["s5"]]}).to_pandas()
    assert served.predict(queries).equals(recommender.recommend_many(queries))


def test_a_saved_model_says_what_goes_in_and_out_and_holds_no_pickle(recommender, tmp_path):
    rr.export.mlflow.save_model(recommender, tmp_path / "model")
    about = mlflow.models.Model.load(str(tmp_path / "model"))
    inputs = {column.name: column for column in about.signature.inputs}
    assert inputs["user"].required
    assert not inputs["age"].required
    assert set(inputs) == {"user", *recommender.queries.column_types}
    assert [column.name for column in about.signature.outputs] == ["user", "song", "rank", "score", "stage"]
    assert about.load_input_example(str(tmp_path / "model"))["user"].to_list() == world.KNOWN[:3]
    flavour = about.flavors["python_function"]
    assert flavour["loader_module"] == "retrank.export.mlflow_model"
    suffixes = {path.suffix for path in (tmp_path / "model").rglob("*")}
    assert not {".pkl", ".pickle", ".pt", ".bin"} & suffixes
    assert "cloudpickle" not in (tmp_path / "model" / "requirements.txt").read_text()
    assert rr.Recommender.load(tmp_path / "model" / flavour["data"]).card == recommender.card


def test_a_baseline_is_a_model_too(tmp_path):
    history, songs = world.tables()
    baseline = rr.baselines.ItemKNN().fit(history, query="user", candidate="song", time="time")
    recommender = rr.Recommender(baseline, catalogue=songs, history=history, time="time")
    rr.export.mlflow.save_model(recommender, tmp_path / "model")
    served = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    users = pl.DataFrame({"user": ["u1", "u2"]}).to_pandas()
    assert served.predict(users).equals(recommender.recommend_many(users))


def test_a_model_of_others_is_refused(tmp_path):
    (tmp_path / "code.py").write_text("def _load_pyfunc(path):\n    raise SystemExit\n")
    (tmp_path / "data").mkdir()
    mlflow.pyfunc.save_model(
        str(tmp_path / "model"), loader_module="code", data_path=str(tmp_path / "data"), pip_requirements=[],
        code_paths=[str(tmp_path / "code.py")],
    )  # fmt: skip
    with pytest.raises(rr.errors.StorageError, match="retrank.export.mlflow_model"):
        rr.export.mlflow.load_model(str(tmp_path / "model"))


def test_a_missing_extra_is_named(recommender, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "mlflow.pyfunc", None)
    with pytest.raises(rr.errors.MissingExtraError, match=r"retrank\[mlflow\]"):
        rr.export.mlflow.save_model(recommender, tmp_path / "model")
