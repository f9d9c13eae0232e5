"""Kernels for a family of processors: the same on every machine of it, and never loaded on any other."""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.core.kernel_machine import BUILT, FOLDER, Machine

import retrank as rr
from retrank.cli.doctor import examine
from retrank.core.native import build, families
from retrank.core.native.families import FAMILIES

needs_kernels = pytest.mark.skipif(BUILT is None, reason="no C++ compiler")

# What Linux says of a Nehalem, a Haswell and a Skylake server, of a Cortex-A72 and of a Neoverse N1.
NEHALEM = """fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush dts acpi mmx fxsr sse sse2
    ss ht tm pbe syscall nx rdtscp lm constant_tsc pni dtes64 monitor ds_cpl vmx est tm2 ssse3 cx16 xtpr pdcm sse4_1
    sse4_2 popcnt lahf_lm"""
HASWELL = NEHALEM + " pclmulqdq fma pcid movbe aes xsave avx f16c rdrand abm bmi1 avx2 smep bmi2 erms invpcid"
SKYLAKE = HASWELL + " mpx avx512f avx512dq rdseed adx smap clflushopt clwb avx512cd avx512bw avx512vl"
CORTEX_A72 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
NEOVERSE = CORTEX_A72 + " atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp ssbs"


def cpuinfo(*cores, title="flags"):
    return "\n\n".join(
        f"processor\t: {number}\nmodel name\t: a processor\n{title}\t\t: {' '.join(features.split())}\nbugs\t\t: avx2"
        for number, features in enumerate(cores)
    )


@pytest.mark.parametrize(
    ("features", "of"),
    [
        ("fpu sse sse2", []),
        (NEHALEM, ["x86-64-v2"]),
        (HASWELL, ["x86-64-v2", "x86-64-v3"]),
        (SKYLAKE, ["x86-64-v2", "x86-64-v3", "x86-64-v4"]),
    ],
    ids=["old", "Nehalem", "Haswell", "Skylake"],
)
def test_which_families_a_processor_belongs_to(features, of):
    assert [name for name, family in FAMILIES.items() if not family.lacking("x86_64", cpuinfo(features))] == of


@pytest.mark.parametrize(("features", "of"), [(CORTEX_A72, 1), (NEOVERSE, 2)])
def test_which_families_an_arm_processor_belongs_to(features, of):
    found = [
        name for name, family in FAMILIES.items() if not family.lacking("aarch64", cpuinfo(features, title="Features"))
    ]
    assert found == ["armv8-a", "armv8.2-a"][:of]


def test_each_thing_that_a_processor_lacks_is_named():
    for family in FAMILIES.values():
        assert family.lacking(family.machines[0], cpuinfo(" ".join(family.features))) == []
        for feature in family.features:
            others = " ".join(family.features - {feature})
            assert family.lacking(family.machines[0], cpuinfo(others)) == [feature]


def test_all_cores_must_have_it():
    family = FAMILIES["x86-64-v3"]
    assert family.lacking("x86_64", cpuinfo(HASWELL, HASWELL)) == []
    assert "avx2" in family.lacking("x86_64", cpuinfo(HASWELL, NEHALEM))
    assert "avx2" in family.lacking("x86_64", cpuinfo(NEHALEM, HASWELL))


def test_a_processor_of_which_nothing_is_known_belongs_to_none():
    assert all(family.lacking(family.machines[0], "") == sorted(family.features) for family in FAMILIES.values())


def test_another_architecture_is_named():
    assert FAMILIES["x86-64-v2"].lacking("aarch64", cpuinfo(SKYLAKE)) == ["the architecture x86_64 (it is aarch64)"]


class World(Machine):
    """A machine with a processor, told to have kernels for a family."""

    def __init__(self, folder, monkeypatch):
        super().__init__(folder, monkeypatch)
        self.has(SKYLAKE)
        self.wants("x86-64-v3")

    def has(self, features):
        self.monkeypatch.setattr(platform, "machine", lambda: "x86_64")
        self.monkeypatch.setattr(families, "_described", lambda: cpuinfo(features))

    def wants(self, family):
        self.monkeypatch.setenv("RETRANK_NATIVE_FOR", family)

    def loses_its_compiler(self):
        self.monkeypatch.setenv("CXX", "no-such-compiler")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


@needs_kernels
def test_they_are_found_with_any_compiler_or_none_on_any_processor_of_the_family(machine):
    built = machine.build()
    assert (built.family, machine.num_compiled) == ("x86-64-v3", 1)
    assert "-march=x86-64-v3" in machine.calls.read_text()
    assert "-march=x86-64-v3" in built.kept.flags
    machine.has(HASWELL)
    assert machine.build().kept == built.kept
    machine.install("exit 1", version="2.0")
    assert machine.build().kept == built.kept
    machine.loses_its_compiler()
    found = machine.build(again=True)
    assert (found.kept, found.reason, found.compiler) == (built.kept, "", "")
    assert found.library is not None
    assert machine.num_compiled == 1


@needs_kernels
def test_each_family_has_its_own_and_so_have_other_sources(machine, tmp_path):
    kept = {machine.build().kept}
    machine.wants("x86-64-v2")
    kept.add(machine.build().kept)
    changed = shutil.copytree(FOLDER, tmp_path / "changed")
    (changed / "scores.h").write_text((changed / "scores.h").read_text() + "\n// changed\n")
    machine.monkeypatch.setattr(build, "_sources", lambda: sorted(changed.glob("*.[ch]*")))
    kept.add(machine.build().kept)
    machine.monkeypatch.delenv("RETRANK_NATIVE_FOR")
    kept.add(machine.build().kept)
    assert len({each.path for each in kept}) == len(machine.kept) == 4


@needs_kernels
@pytest.mark.parametrize("is_kept", [False, True])
def test_a_processor_that_is_not_of_the_family_loads_nothing(machine, is_kept, monkeypatch):
    if is_kept:
        machine.build()
    compiled = machine.num_compiled
    machine.has(NEHALEM)
    monkeypatch.setattr(build.ctypes, "CDLL", None)  # calling it fails
    found = machine.build()
    assert (found.library, found.kept, machine.num_compiled) == (None, None, compiled)
    assert "this processor lacks abm, avx, avx2" in found.reason


@pytest.mark.parametrize("name", ["x86-64-v5", "native", "X86-64-V3", " "])
def test_an_unknown_family_is_said(machine, name):
    machine.wants(name)
    with pytest.warns(rr.errors.RetrankWarning, match=re.escape(f"{name!r} names no family") + ".*x86-64-v2"):
        assert build._Process().find().library is None
    assert machine.num_compiled == 0


@needs_kernels
def test_no_family_is_this_processor(machine):
    machine.wants("")
    assert machine.build().family == ""
    assert "-march=native" in machine.calls.read_text()


def test_without_a_compiler_what_is_missing_is_said_in_every_process(machine):
    machine.loses_its_compiler()
    for _ in range(2):
        rr.core.notices.forget_warnings()
        with pytest.warns(rr.errors.RetrankWarning, match=f"{machine.store} has no kernels for x86-64-v3 that load"):
            assert build._Process().find().library is None


@needs_kernels
def test_a_compiler_without_openmp_does_what_it_can(machine):
    machine.install('case "$options" in *-fopenmp*) exit 1;; esac; cp "$built" "$to"')
    assert machine.build().kept.flags.endswith("-march=x86-64-v3")


def test_a_compiler_that_does_not_know_the_family_is_not_asked_for_less(machine):
    machine.install("echo error: unknown processor >&2; exit 1")
    found = machine.build()
    assert "unknown processor" in found.reason
    assert found.has_just_failed
    assert all("-march=x86-64-v3" in line for line in machine.calls.read_text().splitlines())


@needs_kernels
def test_doctor_tells_for_which_processors_they_are(machine, monkeypatch):
    for name in ("x86-64-v3", ""):
        machine.wants(name)
        monkeypatch.setattr("retrank.cli.doctor.native.retry", machine.build)
        found = examine()
        assert found["environment"]["RETRANK_NATIVE_FOR"] == name
        assert found["kernels"]["built for"] == (name or "this processor")


@needs_kernels
@pytest.mark.skipif(os.geteuid() != 0, reason="only the administrator can give files away")
@pytest.mark.parametrize(("owner", "is_trusted"), [(0, True), (12345, True), (54321, False)])
def test_what_root_has_built_serves_others_and_what_others_have_built_does_not(machine, monkeypatch, owner, is_trusted):
    machine.build()
    for path in (machine.store, *machine.store.iterdir()):
        os.chown(path, owner, owner)
        path.chmod(0o755 if path.is_dir() else 0o644)
    machine.loses_its_compiler()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    found = machine.build()
    assert (found.library is not None) is is_trusted
    assert is_trusted or "belongs to another user" in found.reason


ANSWER = """
import os, sys, torch, retrank as rr
from retrank.core import native
built = native.current_build()
mlp = rr.layers.MLP(4, [8, 2])
with torch.no_grad():
    ours = mlp(torch.arange(12.0).reshape(3, 4))
    with native.without_kernels():
        theirs = mlp(torch.arange(12.0).reshape(3, 4))
torch.testing.assert_close(ours, theirs)
print(built.library is not None, built.compiler, built.kept.flags if built.kept else built.reason)
"""


@needs_kernels
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux says what a processor has")
def test_a_real_build_serves_a_process_without_a_compiler(tmp_path):
    described = Path("/proc/cpuinfo").read_text()
    own = [name for name, family in FAMILIES.items() if not family.lacking(platform.machine(), described)]
    if not own:
        pytest.skip("this processor is of no known family")
    for name in own:
        paths = {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(FOLDER.parents[2]), "RETRANK_NATIVE_FOR": name}
        environment = {key: value for key, value in os.environ.items() if key != "RETRANK_NATIVE"} | paths
        said = []
        for compiler in ({}, {"CXX": "no-such-compiler"}):
            command, env = [sys.executable, "-c", ANSWER], {**environment, **compiler}
            said.append(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.split())
        assert said[0][0] == said[1][0] == "True"
        assert f"-march={name}" in said[0]
        assert said[1][1:] == said[0][2:]  # all but the compiler
