"""Exports that several tests share."""

import pytest
import torch

import retrank as rr
from retrank.export.export_directory import write_runner


@pytest.fixture
def eager_runner(tmp_path):
    """Write what a runner reads, and have the models themselves compute: no file of a program is made."""

    def make(recommender):
        programs = {program.name: program for program in rr.export.tensor_programs(recommender)}
        write_runner(tmp_path / "export", recommender, list(programs.values()))

        def load(_, name):
            program = programs[name]

            def run(inputs):
                assert list(inputs) == [own.name for own in program.inputs]
                tensors = [torch.from_numpy(inputs[own.name]) for own in program.inputs]
                assert [str(tensor.dtype) for tensor in tensors] == [f"torch.{own.dtype}" for own in program.inputs]
                with torch.inference_mode():
                    return program.module(*tensors).numpy()

            return run

        return rr.export.Runner(tmp_path / "export", load=load)

    return make
