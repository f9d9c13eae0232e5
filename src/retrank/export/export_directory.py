"""A recommender as a directory that other programs can serve."""

import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

from retrank.core.directories import atomic_directory, ensure_replaceable
from retrank.core.errors import ConfigError
from retrank.core.files import write_json, write_text
from retrank.core.manifest import write_manifest
from retrank.core.working import Working
from retrank.export import runner, runner_features
from retrank.export.feature_tables import write_features
from retrank.export.onnx_files import to_onnx, write_onnx
from retrank.export.programs import Program, candidate_tower, query_tower, ranker
from retrank.export.runner_tables import QueryTables, write_candidates
from retrank.export.torch_files import write_torch
from retrank.export.tracing import CANDIDATES
from retrank.export.triton import write_triton
from retrank.export.vectors import write_vectors
from retrank.recommender import Recommender

__all__ = ["Layout", "tensor_programs", "write_export", "write_runner"]

Layout = Literal["onnx", "torch", "triton", "vectors"]
"""What an export can hold: ONNX files, those of `torch.export` and AOTInductor, a Triton repository, a table."""

_FORMAT: Final = {"format": "retrank.export", "version": 1}
_PACKAGE: Final = "retrank.export."


def write_export(
    recommender: Recommender, directory: str | Path, layouts: Iterable[Layout] = ("onnx",), *, progress: bool = True
) -> None:
    """Write the models of a recommender as programs of tensors, with what is needed to serve them.

    Every file is asked to compute a sample, and is compared with the model within 1e-5.

    Args:
        recommender: one with models.
        directory: replaced as a whole if it holds an earlier export.
        layouts: `"onnx"` writes `programs/NAME.onnx`, and `"torch"` writes `programs/NAME.pt2` and
            `programs/NAME.aoti.pt2`, both beside `features`, `candidates`, `queries` and `runner.py`, which recommends
            without retrank; `"triton"` writes a folder `model_repository`; `"vectors"` writes `vectors.parquet`, see
            `write_vectors`.
        progress: whether to show on a terminal that it takes longer than a second.

    Raises:
        ConfigError: a baseline, an unknown layout, a feature or a model that cannot be exported, or no compiler for
            the torch layout.
        MissingExtraError: the extra `export` is not installed.
        StorageError: the directory holds something else, or cannot be written.
    """
    chosen = list(dict.fromkeys(layouts))
    unknown = [layout for layout in chosen if layout not in get_args(Layout)]
    if unknown or not chosen:
        raise ConfigError(f"some of {list(get_args(Layout))}", str(unknown or chosen), "layouts of an export")
    ensure_replaceable(directory)
    with Working(f"exporting to {directory}", enabled=progress), atomic_directory(directory) as draft:
        programs = tensor_programs(recommender) if set(chosen) - {"vectors"} else []
        if {"onnx", "torch"} & set(chosen):
            write_runner(draft, recommender, programs)
        if {"onnx", "triton"} & set(chosen):
            translated = {program: to_onnx(program) for program in programs}
            for program in programs if "onnx" in chosen else []:
                write_onnx(program, translated[program], draft / "programs" / f"{program.name}.onnx")
            if "triton" in chosen:
                write_triton(translated, draft / "model_repository")
        for program in programs if "torch" in chosen else []:
            write_torch(program, draft / "programs")
        if "vectors" in chosen:
            write_vectors(recommender, draft / "vectors.parquet")
        write_manifest(draft, _FORMAT)


def tensor_programs(recommender: Recommender) -> list[Program]:
    """Take the models of a recommender as tensor programs, which are traced when they are written.

    Args:
        recommender: one with models.

    Returns:
        The query tower, the candidate tower, and the ranking model if there is one.

    Raises:
        ConfigError: a baseline, or a ranking model that reads nothing of candidates.
    """
    retrieval, ranking = recommender.retrieval, recommender.ranking
    queries, candidates = QueryTables(recommender).sample(), recommender.catalogue.batch
    programs = [query_tower(retrieval, queries), candidate_tower(retrieval, candidates)]
    if ranking is not None:
        programs.append(ranker(ranking, list(getattr(ranking, "features", ())), queries, candidates))
    return programs


def write_runner(folder: Path, recommender: Recommender, programs: Sequence[Program]) -> None:
    """Write what a runner reads beside the programs, and the runner.

    Args:
        folder: of the export.
        recommender: whose models the programs are.
        programs: what `tensor_programs` returned.

    Raises:
        ConfigError: a kind of feature that the runner does not know.
    """
    tables = QueryTables(recommender)
    write_features(folder / "features", recommender.space, tables.names)
    ranked = [own.name for program in programs for own in program.inputs if CANDIDATES in own.shape]
    write_candidates(
        folder / "candidates", recommender, [name for name in ranked if name in recommender.catalogue.batch]
    )
    tables.write(folder / "queries")
    described: dict[str, list[dict[str, Any]]] = {
        program.name: [{"name": own.name, "dtype": own.dtype, "shape": list(own.shape)} for own in program.inputs]
        for program in programs
    }
    write_json(folder / "export.json", {**_FORMAT, **tables.facts(), "programs": described})
    for module in (runner, runner_features):
        source = Path(inspect.getfile(module)).read_text(encoding="utf-8")
        write_text(folder / f"{module.__name__.removeprefix(_PACKAGE)}.py", source.replace(_PACKAGE, ""))
