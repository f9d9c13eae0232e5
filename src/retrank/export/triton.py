"""A model repository for Triton Inference Server: a folder for each program, with its ONNX file and what goes in."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from torch.onnx import ONNXProgram

from retrank.core.errors import ConfigError
from retrank.core.files import write_text
from retrank.export.onnx_files import write_onnx
from retrank.export.programs import Program
from retrank.export.tracing import CANDIDATES, ProgramInput

__all__ = ["triton_config", "write_triton"]

_TYPES: Final = {"int64": "TYPE_INT64", "float32": "TYPE_FP32", "bool": "TYPE_BOOL"}
_MAX_BATCH: Final = 1024


def write_triton(programs: Mapping[Program, ONNXProgram], folder: Path) -> None:
    """Write a model repository.

    Args:
        programs: each with its ONNX form.
        folder: of the repository; it is made.

    Raises:
        ConfigError: an ONNX file that does not compute what the model does.
    """
    for program, translated in programs.items():
        model = folder / program.name
        write_onnx(program, translated, model / "1" / "model.onnx")
        write_text(model / "config.pbtxt", triton_config(program))


def triton_config(program: Program) -> str:
    """Describe a program to Triton: names, types and sizes without the batch, which Triton makes of waiting requests.

    Args:
        program: of a model.

    Returns:
        The text of `config.pbtxt`.

    Raises:
        ConfigError: an input whose first dimension is not the batch.
    """
    width = CANDIDATES if program.output == "scores" else program.expected.shape[1]
    output = ProgramInput(program.output, "float32", ("batch", width))
    if any(own.shape[0] != "batch" for own in program.inputs):
        raise ConfigError("inputs whose first dimension is the batch", str(program.inputs), "triton layout")
    return "\n".join(
        [
            f"name: {json.dumps(program.name)}",
            'platform: "onnxruntime_onnx"',
            f"max_batch_size: {_MAX_BATCH}",
            *(_tensor("input", own) for own in program.inputs),
            _tensor("output", output),
            "dynamic_batching { }",
            "version_policy { latest { num_versions: 1 } }",
            "",
        ]
    )


def _tensor(field: str, own: ProgramInput) -> str:
    dims = [str(size) if isinstance(size, int) else "-1" for size in own.shape[1:]]
    lines = [f"{field} {{", f"  name: {json.dumps(own.name)}", f"  data_type: {_TYPES[own.dtype]}"]
    # A row is one number: Triton has no tensor without dimensions, so it is asked for as one of size 1.
    lines += [f"  dims: [ {', '.join(dims)} ]"] if dims else ["  dims: [ 1 ]", "  reshape { shape: [ ] }"]
    return "\n".join([*lines, "}"])
