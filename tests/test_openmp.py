"""Threads sleep while they wait, unless the user says otherwise; each case in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import retrank as rr

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_DISPLAY_ENV")
TELL = "import os; print(os.environ.get('OMP_WAIT_POLICY'))"
EXAMINE = "from retrank.cli.doctor import examine; print(examine()['threads']['waiting'])"


def run(program, **given):
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment = {**inherited, "PYTHONPATH": str(Path(rr.__file__).parents[1]), **given}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)


def test_it_is_set_before_torch_is_imported_and_child_processes_inherit_it():
    program = f"""
import os, subprocess, sys
class Watch:
    def find_spec(self, name, *rest):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"))
sys.meta_path.insert(0, Watch())
{EXAMINE}
sys.stdout.flush()
subprocess.run([sys.executable, "-c", {TELL!r}])
"""
    *before, said, inherited = run(program).stdout.splitlines()  # polars also looks for torch
    assert set(before) == {inherited} == {"passive"}
    assert said == "passive, waiting threads sleep: OMP_WAIT_POLICY=passive, set by retrank"


def test_the_library_of_threads_has_read_it():
    first, late = (run(f"import {name}, torch", OMP_DISPLAY_ENV="verbose").stderr for name in ("retrank", "numpy"))
    if "GOMP_SPINCOUNT" not in late:
        pytest.skip("an OpenMP that does not tell at its start")
    assert "GOMP_SPINCOUNT = '0'" in first
    assert "GOMP_SPINCOUNT = '0'" not in late


@pytest.mark.parametrize("policy", ["ACTIVE", "passive"])
def test_what_the_user_set_is_kept(policy):
    kept, said = run(f"import torch\n{EXAMINE}\n{TELL}", OMP_WAIT_POLICY=policy).stdout.splitlines()[::-1]
    assert kept == policy
    assert said.startswith(f"{policy.lower()}, waiting threads")
    assert f"OMP_WAIT_POLICY={policy}, set by the environment" in said
    assert ("export OMP_WAIT_POLICY=passive" in said) == (policy != "passive")


def test_finer_settings_of_the_user_are_told():
    said = run(EXAMINE, GOMP_SPINCOUNT="123").stdout
    assert said.strip() == "as told: GOMP_SPINCOUNT=123, set by the environment"


def test_after_torch_it_is_too_late():
    said, policy = run(f"import torch\n{EXAMINE}\n{TELL}").stdout.splitlines()
    assert policy == "None"
    assert said.startswith("too late, waiting threads spin: torch was there first")
    assert said.endswith("import retrank before it, or export OMP_WAIT_POLICY=passive")


def test_after_the_library_that_torch_will_use_it_is_too_late():
    library = Path(torch.__file__).parent / "lib" / "libgomp.so.1"
    if not library.exists() or not Path("/proc/self/maps").exists():
        pytest.skip("another OpenMP")
    program = f"import ctypes; ctypes.CDLL({str(library)!r})\nfrom retrank.openmp import POLICY_IN_FORCE\n{TELL}"
    assert run(f"{program}\nprint(POLICY_IN_FORCE)").stdout.splitlines() == [
        "None",
        "too late, waiting threads spin: libgomp.so.1 was there first; "
        "import retrank before it, or export OMP_WAIT_POLICY=passive",
    ]
