"""Programs as ONNX files."""

from pathlib import Path

import torch
from torch import Tensor
from torch.onnx import ONNXProgram, export

from retrank.core.errors import ConfigError
from retrank.core.extras import optional
from retrank.export.programs import Program
from retrank.export.tracing import quiet

__all__ = ["to_onnx", "write_onnx"]


def to_onnx(program: Program) -> ONNXProgram:
    """Translate a program.

    Args:
        program: of a model.

    Returns:
        A graph whose inputs, output and sizes have the names of the program's.

    Raises:
        ConfigError: an operation that ONNX does not know.
        MissingExtraError: the extra `export` is not installed.
    """
    for module in ("onnx", "onnxscript"):
        optional(module, extra="export")
    try:
        with quiet():  # not optimized: onnxscript takes a small number, as in variance + 1e-12, for 0 and drops it
            translated = export(program.exported, dynamo=True, verbose=False, optimize=False)
    except Exception as error:  # of torch and onnxscript, of many kinds
        reason = str(error).strip().splitlines() or [""]
        raise ConfigError(
            "a model of operations that ONNX has",
            f"{type(error).__name__}: {reason[0]}",
            f"export of the {program.name.replace('_', ' ')}",
            "use the torch layout, or serve this model by retrank itself",
        ) from error
    assert translated is not None
    graph = translated.model.graph
    for place, value in enumerate(value for node in graph for value in node.outputs):
        value.name = f"value_{place}"  # no feature is called so by chance
    for value, own in zip(graph.inputs, program.inputs, strict=True):
        value.name = own.name
        value.shape = type(value.shape)(own.shape)  # type: ignore[misc]
    rows = program.inputs[0].shape[0] if program.output == "embeddings" else "batch"
    graph.outputs[0].name = program.output
    last = program.expected.shape[1] if program.output == "embeddings" else "candidates"
    graph.outputs[0].shape = type(graph.outputs[0].shape)((rows, last))  # type: ignore[misc]
    return translated


def write_onnx(program: Program, translated: ONNXProgram, file: Path) -> None:
    """Write an ONNX file, and have ONNX Runtime compute a sample with it.

    Args:
        program: of a model.
        translated: what `to_onnx` made of it.
        file: the file; its folder is made. Weights of more than 2 GB go beside it, as `NAME.data`.

    Raises:
        ConfigError: it does not compute what the model does.
        MissingExtraError: the extra `export` is not installed.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with quiet():
        translated.save(file)
    program.require_same(_computed(program, file), "ONNX Runtime")


def _computed(program: Program, file: Path) -> Tensor:
    runtime = optional("onnxruntime", extra="export")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # what its optimizer says of shapes is for its authors
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    given = zip(program.inputs, program.sample, strict=True)
    made: Tensor = torch.from_numpy(session.run(None, {own.name: tensor.numpy() for own, tensor in given})[0])
    return made
