"""Bundles as MLflow models: logged with a run, served by MLflow's servers, loaded again as a `Recommender`.

A model holds the bundle as it is and the name of the module that loads it, `retrank.export.mlflow_model`: no object is
pickled, and nothing but retrank and MLflow runs when it is loaded.
"""

import tempfile
from pathlib import Path
from typing import Any, Final

import polars as pl

from retrank.core.errors import StorageError
from retrank.core.extras import optional
from retrank.core.version import __version__
from retrank.recommender import Recommender
from retrank.recommender.typed_columns import kind_of_values

__all__ = ["load_model", "log_model", "save_model"]

_LOADER: Final = "retrank.export.mlflow_model"
_EXAMPLES: Final = 3
_TYPES: Final = {
    "text": "string",
    "number": "double",
    "flag": "boolean",
    "date": "datetime",
    "datetime": "datetime",
    "datetime with time zone": "datetime",
}
_LIST: Final = "list of "


def save_model(recommender: Recommender, path: str | Path) -> None:
    """Write an MLflow model into a folder.

    Args:
        recommender: any.
        path: the folder, which must not be there yet.

    Raises:
        MissingExtraError: the extra `mlflow` is not installed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        _pyfunc().save_model(str(path), **_arguments(recommender, scratch))


def log_model(recommender: Recommender, name: str = "recommender", **options: Any) -> Any:
    """Log an MLflow model with the active run, or one that is begun.

    Args:
        recommender: any.
        name: of the model.
        options: further ones of `mlflow.pyfunc.log_model`, such as `registered_model_name`.

    Returns:
        MLflow's description of the model; `.model_uri` names it to `load_model`.

    Raises:
        MissingExtraError: the extra `mlflow` is not installed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        return _pyfunc().log_model(name=name, **_arguments(recommender, scratch), **options)


def load_model(model_uri: str) -> Recommender:
    """Load the recommender of an MLflow model.

    Args:
        model_uri: where MLflow keeps it, e.g. `"models:/films/3"`.

    Returns:
        The recommender that was logged. `mlflow.pyfunc.load_model` gives it as a model of MLflow instead.

    Raises:
        MissingExtraError: the extra `mlflow` is not installed.
        StorageError: the model is not one of retrank, or its bundle is damaged.
    """
    folder = Path(optional("mlflow.artifacts", extra="mlflow").download_artifacts(model_uri))
    about = optional("mlflow.models", extra="mlflow").Model.load(str(folder))
    flavour = about.flavors.get("python_function", {})
    if flavour.get("loader_module") != _LOADER:
        got = str(flavour.get("loader_module", "none"))
        raise StorageError(f"a model that {_LOADER} loads", got, model_uri, "load it by what it was logged with")
    return Recommender.load(folder / flavour["data"], progress=False)


def _pyfunc() -> Any:
    return optional("mlflow.pyfunc", extra="mlflow")


def _arguments(recommender: Recommender, scratch: str) -> dict[str, Any]:
    """Return what MLflow needs for a model, whose bundle lies in a scratch folder."""
    bundle = Path(scratch) / "bundle"
    recommender.save(bundle)
    return {
        "loader_module": _LOADER,
        "data_path": str(bundle),
        "signature": _signature(recommender),
        "input_example": recommender.queries.stored_table.select(recommender.query).head(_EXAMPLES).to_pandas(),
        "pip_requirements": [f"retrank[mlflow]=={__version__}"],
        "metadata": {"title": recommender.card.title},
    }


def _signature(recommender: Recommender) -> Any:
    types, models = optional("mlflow.types", extra="mlflow"), optional("mlflow.models", extra="mlflow")
    schema = optional("mlflow.types.schema", extra="mlflow")
    query, features = recommender.queries.index.dtype, recommender.queries.column_types
    keys = {recommender.query: query, recommender.candidate: recommender.candidates.schema[recommender.candidate]}
    inputs = [types.ColSpec(_type(query, schema), recommender.query)]
    inputs += [types.ColSpec(_type(dtype, schema), name, required=False) for name, dtype in features.items()]
    outputs = [types.ColSpec(_type(dtype, schema), name) for name, dtype in keys.items()]
    outputs += [types.ColSpec("long", "rank"), types.ColSpec("float", "score"), types.ColSpec("string", "stage")]
    params = [types.ParamSpec("k", "long", 10), types.ParamSpec("exclude_seen", "boolean", True)]
    return models.ModelSignature(
        schema.Schema(inputs), schema.Schema(outputs), types.ParamSchema(params)
    )  # in the words of MLflow


def _type(dtype: pl.DataType, schema: Any) -> Any:
    kind = kind_of_values(dtype)
    if dtype.is_integer():
        return schema.DataType.long
    if kind.startswith(_LIST):
        assert isinstance(dtype, pl.List | pl.Array)
        return schema.Array(_type(dtype.inner, schema))  # type: ignore[arg-type]  # polars allows the class too
    return getattr(schema.DataType, _TYPES[kind])
