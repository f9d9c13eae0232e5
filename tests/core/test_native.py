"""The kernels are built once, kept for the next process, and never missed where they cannot be had."""

import ctypes
import fnmatch
import io
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import tomllib
import warnings
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tests.core.kernel_machine import BUILT, FOLDER, Machine

import retrank as rr
from retrank.core import native, working
from retrank.core.native import build, cache, is_native, kernels, without_kernels

needs_kernels = pytest.mark.skipif(BUILT is None, reason="no C++ compiler")


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
    assert stat.S_IMODE(machine.store.stat().st_mode) == 0o700
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
    assert {output.split("'")[1] for output in outputs} == {str(machine.store / name)}
    assert name in machine.start().communicate()[0]
    assert machine.num_compiled == 1


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
    whole = (machine.store / name).read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:-1] + b"?"):
        (machine.store / name).write_bytes(damaged)
        assert name in machine.start().communicate()[0]
        assert (machine.store / name).read_bytes() == whole


FAILURES = {
    "says no": "echo error: no >&2; exit 1",
    "says no in an unknown encoding": r"printf '\377\376 no' >&2; exit 1",
    "writes nothing": "true",
    "writes nonsense": 'echo nonsense > "$to"',
}


@pytest.mark.parametrize("produce", FAILURES.values(), ids=FAILURES)
def test_a_compiler_that_fails_is_done_without_and_not_asked_again(machine, produce):
    machine.install(produce)
    first = machine.build()
    assert first.library is None
    assert first.has_just_failed
    assert machine.kept == []  # what does not work is not kept
    compiled, again = machine.num_compiled, machine.build()
    assert (again.library, again.has_just_failed, machine.num_compiled) == (None, False, compiled)
    assert first.reason in again.reason
    assert sorted(path.name for path in machine.store.iterdir() if path.suffix != ".failed") == ["lock"]


@needs_kernels
def test_a_failed_build_is_tried_again_on_demand_and_when_its_memory_is_deleted(machine):
    machine.install('test -e "$(dirname "$0")/mended" || exit 1; cp "$built" "$to"')
    assert machine.library() is None
    (machine.folder / "mended").touch()
    assert machine.library() is None
    assert machine.build(again=True).library is not None
    (machine.folder / "mended").unlink()
    machine.install('test -e "$(dirname "$0")/mended" || exit 1; cp "$built" "$to"', version="3.0")
    assert machine.library() is None
    (machine.folder / "mended").touch()
    for path in machine.store.glob("*.failed"):
        path.unlink()
    assert machine.library() is not None


def test_a_failed_build_is_said_once(machine, monkeypatch):
    machine.install("echo error: no such register >&2; exit 1")
    process = build._Process()
    with pytest.warns(rr.errors.RetrankWarning, match="no such register"):
        process.find()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert process.find().library is None
        assert build._Process().find().library is None
    assert said == []


def test_a_compiler_that_hangs_is_given_up(machine, monkeypatch):
    machine.install("exec sleep 30")
    monkeypatch.setattr(build, "_SECONDS", 0.2)
    found = machine.build()
    assert found.has_just_failed
    assert "took more than" in found.reason


@needs_kernels
@pytest.mark.parametrize("patience", [0.0, 60.0])
def test_a_long_build_says_on_a_terminal_what_it_is_doing(machine, monkeypatch, patience):
    written = io.StringIO()
    monkeypatch.setattr(working, "Console", lambda **_: Console(file=written, force_terminal=True, width=120))
    monkeypatch.setattr(working, "_PATIENCE", patience)
    machine.install('sleep 0.3; cp "$built" "$to"')
    assert machine.library() is not None
    assert ("building the C++ kernels" in written.getvalue()) is (patience == 0)


@needs_kernels
def test_threads_that_ask_at_once_build_once(machine):
    machine.install('sleep 0.2; cp "$built" "$to"')
    process, found = build._Process(), []
    threads = [threading.Thread(target=lambda: found.append(process.find())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert machine.num_compiled == 1
    assert len(found) == 4
    assert all(build is found[0] for build in found)


UNTRUSTED_FOLDERS = {
    "writable by the group": lambda folder, elsewhere: folder.mkdir(parents=True) or folder.chmod(0o770),
    "writable by all": lambda folder, elsewhere: folder.mkdir(parents=True) or folder.chmod(0o702),
    "a link": lambda folder, elsewhere: folder.parent.mkdir(parents=True) or folder.symlink_to(elsewhere),
    "a link to nothing": lambda folder, elsewhere: folder.parent.mkdir(parents=True) or folder.symlink_to("gone"),
}


@pytest.mark.parametrize("make", UNTRUSTED_FOLDERS.values(), ids=UNTRUSTED_FOLDERS)
def test_a_folder_that_others_could_have_filled_is_refused(machine, make, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    make(machine.store, tmp_path / "elsewhere")
    found = machine.build()
    assert found.library is None
    assert str(machine.store) in found.reason
    assert machine.num_compiled == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only the administrator can give files away")
def test_a_folder_of_another_user_is_refused(machine):
    machine.store.mkdir(parents=True, mode=0o700)
    os.chown(machine.store, 12345, 12345)
    assert "belongs to another user" in machine.build().reason


@needs_kernels
@pytest.mark.parametrize("suffix", [".so", ".json"])
@pytest.mark.parametrize("spoil", ["group", "others", "link", "owner"])
def test_a_file_that_others_could_have_written_is_built_anew(machine, suffix, spoil, tmp_path):
    machine.library()
    [path] = machine.store.glob(f"*{suffix}")
    if spoil == "link":
        shutil.move(path, tmp_path / "moved")
        path.symlink_to(tmp_path / "moved")
    elif spoil == "owner":
        if os.geteuid() != 0:
            pytest.skip("only the administrator can give files away")
        os.chown(path, 12345, 12345)
    else:
        path.chmod(0o620 if spoil == "group" else 0o602)
    assert machine.library() is not None
    assert machine.num_compiled == 2
    status = path.lstat()
    assert stat.S_ISREG(status.st_mode)
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, os.geteuid())


@needs_kernels
def test_what_is_kept_is_trusted_whatever_the_umask(machine):
    before = os.umask(0o000)
    try:
        machine.library()
        assert machine.library() is not None
    finally:
        os.umask(before)
    assert machine.num_compiled == 1


@needs_kernels
def test_without_locks_a_process_builds_for_itself(machine, monkeypatch):
    monkeypatch.setattr(cache, "fcntl", None)
    assert machine.library() is not None


@needs_kernels
def test_drafts_of_killed_builds_are_swept(machine):
    old, new = machine.store / ".build-old", machine.store / ".build-new"
    machine.store.mkdir(parents=True, mode=0o700)
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (0, 0))
    machine.library()
    assert not old.exists()
    assert new.exists()


def test_a_relative_place_for_caches_is_ignored(machine, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setattr(build.Path, "home", lambda: machine.folder / "home")
    machine.install("exit 1")
    machine.build()
    assert (machine.folder / "home" / ".cache" / "retrank" / "kernels").is_dir()


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


SPECIAL = {
    "negated": lambda: torch.ones(3, dtype=torch.complex64).conj().imag,
    "sparse": lambda: torch.eye(3).to_sparse(),
    "csr": lambda: torch.eye(3).to_sparse_csr(),
    "mkldnn": lambda: torch.eye(3).to_mkldnn(),
    "meta": lambda: torch.eye(3, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "zero without memory": lambda: torch._efficientzerotensor(3),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning", "ignore:The PyTorch API of nested:UserWarning")
@pytest.mark.parametrize("make", SPECIAL.values(), ids=SPECIAL)
def test_memory_that_is_not_as_its_strides_say_is_left_to_torch(make):
    assert not is_native(make())


def test_what_torch_records_or_derives_forward_is_left_to_torch():
    found, numbers = [], torch.ones(3)

    def ask(x):
        found.append(is_native(numbers))
        return x * 2

    torch.func.vmap(ask)(numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that traces are out of fashion
        torch.func.jvp(ask, (numbers,), (numbers,))
        torch.jit.trace(ask, numbers, check_trace=False)
        with torch.autograd.forward_ad.dual_level():
            ask(numbers)
    assert found == [False] * 4
    ask(numbers)
    assert found[-1] == (BUILT is not None)


def test_a_block_without_kernels_is_one_of_its_thread():
    inside, found = threading.Event(), []
    entered = threading.Event()

    def other():
        with without_kernels():
            entered.set()
            inside.wait()
            found.append(is_native(torch.zeros(1)))

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait()
    assert is_native(torch.zeros(1)) is (BUILT is not None)
    inside.set()
    thread.join()
    assert found == [False]


FORK = """
import os, sys, torch, retrank as rr
torch.set_num_threads(int(sys.argv[1]))
queries, candidates = torch.randn(300, 16), torch.randn(2000, 16)
mlp = rr.layers.MLP(16, [32, 8])

def answer():
    with torch.no_grad():
        loss = rr.tasks.Retrieval()(queries, candidates, positives=torch.arange(300))
        return round(loss.item(), 3), round(mlp(queries).sum().item(), 3)

expected = answer()
child = os.fork()
if child == 0:
    found = rr.core.native.num_threads(), answer() == expected, torch.get_num_threads()
    os.write(1, repr(found).encode())
    os._exit(0)
os.waitpid(child, 0)
print(end=f" {rr.core.native.num_threads()}")
"""


@needs_kernels
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_child_answers_with_one_thread(threads):
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parents[2])}
    command = [sys.executable, "-c", FORK, str(threads)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == f"(1, True, 1) {threads}"
