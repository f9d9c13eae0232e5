"""The Triton repository: its text is of Triton's grammar, and says what the ONNX files say."""

import re

import pytest
from tests.export import world

import retrank as rr

TOKEN = re.compile(
    r'\s*(?:(?P<name>[a-z_]\w*)|(?P<enum>TYPE_[A-Z0-9]+)|(?P<number>-?\d+)|(?P<text>"(?:[^"\\]|\\.)*")|(?P<sign>[{}\[\]:,]))'
)
TYPES = {"TYPE_INT64": 7, "TYPE_FP32": 1, "TYPE_BOOL": 9}  # of ONNX


def tokens(text):
    place = 0
    while text[place:].strip():
        found = TOKEN.match(text, place)
        assert found, text[place : place + 30]
        yield found.lastgroup, found.group(found.lastgroup)
        place = found.end()


class Parser:
    """The text format of protocol buffers, as far as a model configuration needs it."""

    def __init__(self, text):
        self.tokens, self.place = list(tokens(text)), 0

    def peek(self):
        return self.tokens[self.place] if self.place < len(self.tokens) else (None, None)

    def take(self, *kinds):
        kind, value = self.peek()
        assert kind in kinds or value in kinds, (kind, value, kinds)
        self.place += 1
        return value

    def message(self):
        fields = {}
        while self.peek()[0] == "name":
            name = self.take("name")
            if self.peek()[1] == "{":
                self.take("{")
                value = self.message()
                self.take("}")
            else:
                self.take(":")
                value = self.value()
            fields.setdefault(name, []).append(value)
        return fields

    def value(self):
        if self.peek()[1] != "[":
            kind = self.peek()[0]
            value = self.take("enum", "number", "text")
            return int(value) if kind == "number" else value[1:-1] if kind == "text" else value
        self.take("[")
        values = []
        while self.peek()[1] != "]":
            values.append(self.value())
            if self.peek()[1] == ",":
                self.take(",")
        self.take("]")
        return values


def parsed(text):
    parser = Parser(text)
    made = parser.message()
    assert parser.place == len(parser.tokens)
    return made


def checked(program_folder):
    """Compare a configuration with its ONNX file; return it."""
    onnx = pytest.importorskip("onnx")
    config = parsed((program_folder / "config.pbtxt").read_text())
    model = onnx.load(program_folder / "1" / "model.onnx")
    onnx.checker.check_model(model)
    assert config["name"] == [program_folder.name]
    assert config["platform"] == ["onnxruntime_onnx"]
    assert config["max_batch_size"][0] > 1
    assert config["dynamic_batching"] == [{}]
    assert config["version_policy"] == [{"latest": [{"num_versions": [1]}]}]
    for field, tensors in (("input", model.graph.input), ("output", model.graph.output)):
        assert [one["name"][0] for one in config[field]] == [tensor.name for tensor in tensors]
        for one, tensor in zip(config[field], tensors, strict=True):
            assert TYPES[one["data_type"][0]] == tensor.type.tensor_type.elem_type
            sizes = [size.dim_param or size.dim_value for size in tensor.type.tensor_type.shape.dim]
            assert sizes[0] == "batch"
            own = one["reshape"][0]["shape"][0] if "reshape" in one else one["dims"][0]
            assert own == [size if isinstance(size, int) else -1 for size in sizes[1:]]
            assert one["dims"][0]
    return config


def test_configurations_say_what_the_files_say(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    history, songs = world.tables()
    space = world.space_of(history, songs)
    model = rr.models.MatrixFactorization(space.schema["user"], space.schema["song"], rr.tasks.Retrieval(), dim=4)
    recommender = rr.Recommender(model, space=space, catalogue=songs, history=history, time="time")
    rr.export.write_export(recommender, tmp_path / "export", ["triton"])
    folders = sorted((tmp_path / "export" / "model_repository").iterdir())
    assert [folder.name for folder in folders] == ["candidate_tower", "query_tower"]
    configs = [checked(folder) for folder in folders]
    assert configs[1]["input"] == [
        {"name": ["user"], "data_type": ["TYPE_INT64"], "dims": [[1]], "reshape": [{"shape": [[]]}]}
    ]
    assert not (tmp_path / "export" / "runner.py").exists()


@pytest.mark.slow
def test_configurations_of_every_kind_of_input(tmp_path):
    rr.export.write_export(world.serve("reranker"), tmp_path / "export", ["triton"])
    for folder in (tmp_path / "export" / "model_repository").iterdir():
        checked(folder)


def test_a_name_is_written_as_text():
    assert parsed('name: "a \\"b\\""')["name"] == ['a \\"b\\"']
    for wrong in ("name: ", "name { ", "name: [1, 2", "name: 1 }", "name: one"):
        with pytest.raises(AssertionError):
            parsed(wrong)
