"""A recommender for other programs: tensor programs, tables, vectors, MLflow and the Hugging Face Hub.

`write_export` writes a directory with the towers and the ranking model as ONNX, `torch.export` and AOTInductor files or
as a Triton model repository, and a runner that recommends with NumPy and ONNX Runtime alone. `vectors` and
`write_vectors` give the candidates to a vector database. `mlflow` logs bundles as models of MLflow; `push_to_hub` and
`from_hub` keep them on the Hugging Face Hub.
"""

from retrank.export import mlflow
from retrank.export.export_directory import Layout, tensor_programs, write_export
from retrank.export.hub import from_hub, push_to_hub
from retrank.export.programs import Program
from retrank.export.runner import Runner
from retrank.export.tracing import ProgramInput
from retrank.export.vectors import VectorBatch, vectors, write_vectors

__all__ = [
    "Layout",
    "Program",
    "ProgramInput",
    "Runner",
    "VectorBatch",
    "from_hub",
    "mlflow",
    "push_to_hub",
    "tensor_programs",
    "vectors",
    "write_export",
    "write_vectors",
]
