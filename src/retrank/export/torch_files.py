"""Programs as `torch.export` archives and as AOTInductor packages."""

import os
import shutil
import tempfile
from pathlib import Path

import torch

from retrank.core.errors import ConfigError
from retrank.export.programs import Program
from retrank.export.tracing import quiet

__all__ = ["write_torch"]


def write_torch(program: Program, folder: Path) -> None:
    """Write `NAME.pt2`, for `torch.export.load`, and `NAME.aoti.pt2`, machine code for this kind of processor.

    Args:
        program: of a model.
        folder: where they go; it is made.

    Raises:
        ConfigError: there is no C++ compiler, or the files do not compute what the model does.
    """
    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        fix = "install g++, or use the onnx layout"
        raise ConfigError("a C++ compiler, for AOTInductor", "none", "torch layout of an export", fix)
    folder.mkdir(parents=True, exist_ok=True)
    compiled = folder / f"{program.name}.aoti.pt2"
    with quiet():
        torch.export.save(program.exported, folder / f"{program.name}.pt2")
        _compile(program, compiled)
        with torch.inference_mode():
            program.require_same(program.exported.module()(*program.sample), "torch.export")
            program.require_same(torch._inductor.aoti_load_package(str(compiled))(*program.sample), "AOTInductor")


def _compile(program: Program, file: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:  # Inductor wants to name the file itself
        made = torch._inductor.aoti_compile_and_package(
            program.exported, package_path=str(Path(scratch) / "package.pt2")
        )
        shutil.move(str(made), file)
