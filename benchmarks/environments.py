"""The peers' own virtual environments, under the git-ignored folder `.peers`."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".peers"
PINS = Path(__file__).parent / "peers"

# What must be set before the libraries are imported.
VARIABLES = {
    "tfrs": {"TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": ""},
    "keras-rs": {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""},
    "torch-rechub": {"CUDA_VISIBLE_DEVICES": ""},
    "scikit-learn": {},
}


def interpreter(environment: str) -> tuple[str, dict[str, str]]:
    """Return the interpreter of an environment, and the variables that its libraries want."""
    if environment == "retrank":
        return sys.executable, {}
    return str(FOLDER / environment / "bin" / "python"), VARIABLES[environment]


def install(environments: Iterable[str]) -> dict[str, str]:
    """Create what is not there yet, or was made from other pins.

    Returns:
        By environment, why it could not be installed.
    """
    return {name: reason for name in environments if (reason := _install(name))}


def _install(name: str) -> str:
    pins, folder = PINS / f"{name}.txt", FOLDER / name
    stamp = folder / ".installed"
    if stamp.exists() and stamp.read_text() == pins.read_text():
        return ""
    print(f"install {name} into {folder.relative_to(ROOT)}", file=sys.stderr, flush=True)
    FOLDER.mkdir(exist_ok=True)
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(folder / "bin" / "pip"), "install", "--quiet", "--requirement", str(pins)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            return f"not installed: {lines[-1][:200] if lines else command}"
    stamp.write_text(pins.read_text())
    return ""
