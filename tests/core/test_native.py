"""The kernels are built once, kept for the next process, and never missed where they cannot be had."""

import ctypes
import fnmatch
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import retrank as rr
from retrank.core import native
from retrank.core.native import build, call, is_native, kernels, without_kernels

FOLDER = Path(build.__file__).parent
BUILT = native.library()


needs_kernels = pytest.mark.skipif(BUILT is None, reason="no C++ compiler")

LOADER = "import runpy, sys; print(runpy.run_path(sys.argv[1])['library']())"


class Machine:
    """A machine with a compiler that writes down how it was called, and an empty cache."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.cache = folder, folder / "cache"
        self.compiler, self.calls = folder / "my-c++", folder / "calls"
        self.monkeypatch = monkeypatch
        monkeypatch.setenv("XDG_CACHE_HOME", str(self.cache))
        monkeypatch.delenv("RETRANK_NATIVE", raising=False)
        self.install('cp "$built" "$to"')

    def install(self, produce, *, version="1.0", quickly=True):
        """Make it produce something else than the kernels; `$built` are those, `$to` is where they should go."""
        self.compiler.write_text(f"""#!/bin/sh
            if [ "$1" = --version ]; then echo {version}; exit; fi
            echo "$@" >> "{self.calls}"
            built="{getattr(BUILT, "_name", "")}"
            options="$*"
            while [ "$1" != -o ]; do shift; done
            to="$2"
            {"" if quickly else "sleep 0.3"}
            {produce}
        """)
        self.compiler.chmod(0o755)
        self.monkeypatch.setenv("CXX", str(self.compiler))

    def library(self):
        return build.library.__wrapped__()  # as in a new process

    def start(self, script=FOLDER / "build.py"):
        return subprocess.Popen([sys.executable, "-c", LOADER, script], stdout=subprocess.PIPE, text=True)

    @property
    def num_compiled(self):
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0

    @property
    def kept(self):
        return sorted(path.name for path in (self.cache / "retrank").iterdir() if path.suffix != ".sha256")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


@needs_kernels
def test_they_are_built_once_and_kept(machine):
    first, second = machine.library(), machine.library()
    assert first._name == second._name
    assert machine.num_compiled == 1
    [name] = machine.kept
    assert re.fullmatch(r"kernels-[0-9a-f]{16}\.so", name)
    assert stat.S_IMODE((machine.cache / "retrank").stat().st_mode) == 0o700
    shape = torch.zeros(3, dtype=torch.int64)
    first.tile_shape(ctypes.c_int64(1), ctypes.c_void_p(shape.data_ptr()))
    assert (shape > 0).all()


@needs_kernels
def test_processes_that_start_at_once_do_not_meet(machine):
    machine.install('head -c 9000 "$built" > "$to"; sleep 0.2; cp "$built" "$to"', quickly=False)
    processes = [machine.start() for _ in range(3)]
    outputs = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    [name] = machine.kept
    assert {output.split("'")[1] for output in outputs} == {str(machine.cache / "retrank" / name)}
    compiled = machine.num_compiled
    assert name in machine.start().communicate()[0]
    assert machine.num_compiled == compiled


@needs_kernels
def test_another_compiler_and_other_sources_have_other_kernels(machine, tmp_path):
    machine.library()
    machine.install('cp "$built" "$to"', version="2.0")
    machine.library()
    assert (machine.num_compiled, len(machine.kept)) == (2, 2)
    changed = shutil.copytree(FOLDER, tmp_path / "changed")
    for name in ("ranks.cpp", "scores.h"):
        path = changed / name
        path.write_text(path.read_text() + "\n// changed\n")
        assert "CDLL" in machine.start(changed / "build.py").communicate()[0]
    assert (machine.num_compiled, len(machine.kept)) == (4, 4)


@needs_kernels
def test_a_compiler_that_cannot_do_all_does_what_it_can(machine):
    machine.install('case "$options" in *=native*) exit 1;; esac; cp "$built" "$to"')
    assert machine.library() is not None
    calls = machine.calls.read_text().splitlines()
    assert "-march=native" in calls[0]
    assert "=native" not in calls[-1]


@needs_kernels
def test_a_runtime_that_cannot_be_loaded_is_done_without(machine):
    machine.install('case "$options" in *-fopenmp*) echo nothing > "$to";; *) cp "$built" "$to";; esac')
    assert machine.library() is not None


@needs_kernels
def test_what_was_kept_and_is_damaged_is_built_anew(machine):
    machine.start().communicate()
    [name] = machine.kept
    whole = (machine.cache / "retrank" / name).read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:-1] + b"?"):
        (machine.cache / "retrank" / name).write_bytes(damaged)
        assert name in machine.start().communicate()[0]
        assert (machine.cache / "retrank" / name).read_bytes() == whole


FAILURES = {
    "says no": "echo error: no >&2; exit 1",
    "says no in an unknown encoding": r"printf '\377\376 no' >&2; exit 1",
    "writes nothing": "true",
    "writes nonsense": 'echo nonsense > "$to"',
}


@pytest.mark.parametrize("produce", FAILURES.values(), ids=FAILURES)
def test_a_compiler_that_fails_is_done_without(machine, produce, caplog):
    machine.install(produce)
    with caplog.at_level("INFO", logger="retrank"):
        assert machine.library() is None
    assert "plain torch instead" in caplog.text
    assert machine.kept == []  # what does not work is not kept


COMPILERS = {
    "none of that name": "no-such-compiler",
    "a folder": "/",
    "not executable": str(Path(__file__)),
    "not one": "false",
    "blank": "  ",
    "an open quote": "'c++",
}


@pytest.mark.parametrize("compiler", COMPILERS.values(), ids=COMPILERS)
def test_what_is_no_compiler_is_done_without(machine, monkeypatch, compiler):
    monkeypatch.setenv("CXX", compiler)
    assert machine.library() is None


def test_without_any_compiler(machine, monkeypatch):
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(machine.folder))
    assert machine.library() is None


def test_without_a_place_to_write(machine):
    machine.cache.write_text("a file where a folder should be")
    assert machine.library() is None


def test_without_a_home(machine, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(build.Path, "home", home)
    assert machine.library() is None


def test_they_can_be_switched_off_from_outside(machine, monkeypatch):
    monkeypatch.setenv("RETRANK_NATIVE", "0")
    assert machine.library() is None
    assert machine.num_compiled == 0


SMALL_SESSION = """
import torch, retrank as rr
torch.set_num_threads(1)
torch.manual_seed(0)
queries, candidates = torch.randn(5, 4, requires_grad=True), torch.randn(40, 4)
loss = rr.tasks.Retrieval()(queries, candidates)
loss.backward()
scores, ids = rr.index.Exact(candidates).search_rows(queries, 7)
ranks = rr.metrics.rank_of_positive(queries, candidates, torch.arange(5))
found = [round(loss.item(), 4), round(queries.grad.sum().item(), 4), ids.tolist(), ranks.tolist()]
print(rr.core.native.library(), found)
"""


def test_everything_works_without_a_compiler(tmp_path):
    environment = {**os.environ, "CXX": "no-such-compiler", "XDG_CACHE_HOME": str(tmp_path)}
    environment["PYTHONPATH"] = str(FOLDER.parents[2])
    output = subprocess.run(
        [sys.executable, "-c", SMALL_SESSION], env=environment, check=True, capture_output=True, text=True
    ).stdout
    lines = []
    exec(SMALL_SESSION, {"print": lambda _, found: lines.append(str(found))})
    assert output.strip() == f"None {lines[0]}"


def test_what_they_take():
    floats = torch.zeros(2)
    assert is_native(floats) is (BUILT is not None)
    assert is_native(floats, floats[:0]) is (BUILT is not None)
    for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.bool):
        assert not is_native(floats, floats.to(dtype))
    assert not is_native(floats.to("meta"))


def test_a_block_without_kernels_ends_with_its_block():
    floats = torch.zeros(2)
    before = is_native(floats)
    with without_kernels():
        with without_kernels():
            assert not is_native(floats)
        assert not is_native(floats)
    assert is_native(floats) == before
    with pytest.raises(ZeroDivisionError), without_kernels():
        _ = 1 / 0
    assert is_native(floats) == before


def test_a_compiler_of_graphs_sees_plain_torch(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not is_native(torch.zeros(2))


@needs_kernels
def test_a_call_refuses_memory_that_it_would_misread():
    panels, candidates = torch.zeros(64, 3), torch.ones(3, 5)
    for wrong in (candidates.T, candidates.to("meta").T.contiguous()):
        with pytest.raises(AssertionError):
            call("pack_panels", wrong, None, 5, 3, panels)
    with pytest.raises(AttributeError):
        call("no_such_kernel")


def test_the_sources_are_part_of_the_package():
    project = Path(rr.__file__).parents[2] / "pyproject.toml"
    if not project.exists():
        pytest.skip("the package is installed without its project")
    patterns = tomllib.loads(project.read_text())["tool"]["setuptools"]["package-data"]["retrank"]
    for path in FOLDER.iterdir():
        name = path.relative_to(FOLDER.parents[1]).as_posix()
        if path.suffix != ".py" and path.is_file():
            assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name


@needs_kernels
@pytest.mark.slow
@pytest.mark.parametrize("processor", ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"])
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names of x86 processors")
def test_they_are_right_on_other_processors(machine, monkeypatch, processor):
    flags = set(Path("/proc/cpuinfo").read_text().split())
    needed = {"avx512f", "avx512vl"} if processor == "x86-64-v4" else {"avx2"}
    if not needed <= flags:
        pytest.skip("this processor cannot do that")
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(build, "_VARIANTS", ((f"-march={processor}",),))
    library = machine.library()
    monkeypatch.setattr(kernels, "library", lambda: library)
    for dim in (1, 5, 16, 33):
        for num_queries, num_candidates in ((1, 1), (3, 70), (50, 333)):
            queries = torch.randint(-8, 9, (num_queries, dim)) / 4
            candidates = torch.randint(-8, 9, (num_candidates, dim)) / 4
            positives = torch.randint(num_candidates, (num_queries,))
            k = min(num_candidates, 20)

            def everything(queries=queries, candidates=candidates, positives=positives, k=k):
                learned = [queries.clone().requires_grad_(), candidates.clone().requires_grad_()]
                loss = rr.tasks.Retrieval()(*learned, positives=positives)
                loss.backward()
                found = rr.index.Exact(candidates).search_rows(queries, k)
                ranks = rr.metrics.rank_of_positive(queries, candidates, positives)
                return [loss.detach(), *(tensor.grad for tensor in learned)], [*found, ranks]

            rounded, exact = everything()
            with without_kernels():
                rounded_again, exact_again = everything()
            for ours, theirs in zip(rounded, rounded_again, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
            assert all(map(torch.equal, exact, exact_again))


def test_a_subclass_of_tensor_is_left_to_torch():
    class Elsewhere(torch.Tensor):
        pass

    numbers = torch.zeros(2)
    assert not native.is_native(numbers.as_subclass(Elsewhere))
    assert native.is_native(numbers, torch.nn.Parameter(numbers)) == (native.library() is not None)
