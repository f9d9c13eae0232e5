"""Damages directories and seals them again, so that only what is inside the files can tell."""

import hashlib
import json
import os

from retrank.core.manifest import MANIFEST, write_manifest

BYTES = (0x00, 0x01, 0x7F, 0x80, 0xFF)
VALUES = (
    None, True, False, 0, -1, 1, 2, 3.5, -0.5, 10**12, 2**31, 2**63, -(2**63), 10**30, 1e300, 1e-300, float("nan"),
    float("inf"), "", "x", "../x", "/etc/passwd", "/dev/zero", "\ud800", "a\0b", "retrank.models.TwoTower", [], {},
    [[]], [None], {"type": "dict"}, {"type": "retrank.models.TwoTower", "arguments": {}},
    {"type": "retrank.embeddings.EmbeddingTable", "arguments": {"rows": 10**12, "dim": 64}},
    {"type": "torch.nn.Linear", "arguments": {"in_features": 10**9, "out_features": 10**9}},
    {"type": "context", "name": "space"}, {"tensor": "x"}, {"float": "1e999"}, {"tuple": 3}, {"dict": [[1]]},
)  # fmt: skip


def manifests_of(directory):
    """Inner ones first, so that the outer ones list what is sealed already."""
    return sorted(directory.rglob(MANIFEST), key=lambda path: -len(path.parts))


def seal(directory):
    """Write all manifests anew, as whoever damages a file on purpose does; a damaged manifest keeps its payload."""
    for manifest in manifests_of(directory):
        payload = json.loads(manifest.read_text())["payload"]
        write_manifest(manifest.parent, payload)


def places_in(value, path=()):
    """Every place of a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places_in(item, (*path, key))


def change_json(content, random):
    """Replace, remove, add, rename or nest something."""
    value = json.loads(content)
    places = list(places_in(value))
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        *parents, last = random.choice(places) or (None,)
        if last is None:
            value = random.choice(VALUES)
            break
        holder = value
        try:
            for key in parents:
                holder = holder[key]
            match random.randrange(6):
                case 0:
                    del holder[last]
                case 1 if isinstance(holder, dict):
                    holder[random.choice(["x", "type", "arguments", last + "s"])] = holder.pop(last)
                case 2:
                    bomb = "[" * 100_000 + "]" * 100_000
                    holder[last] = "BOMB"
                    return json.dumps(value).replace('"BOMB"', bomb).encode()
                case 3:
                    holder[last] = [holder[last]] * 3
                case 4 if isinstance(holder[last], int | float):
                    holder[last] = random.choice(
                        [-holder[last], holder[last] * 10**9, holder[last] + 1, str(holder[last])]
                    )
                case _:
                    holder[last] = random.choice(VALUES)
        except (LookupError, TypeError):  # an earlier change took the place away
            continue
    return json.dumps(value).encode()


def change_bytes(content, random):
    """Flip, cut, repeat or fill."""
    content = bytearray(content)
    if not content:
        return b"x"
    match random.randrange(5):
        case 0:
            return bytes(content[: random.randrange(len(content))])
        case 1:
            place = random.randrange(len(content))
            return bytes(content[:place] + content[place:] * random.choice([2, 3]))
        case 2:
            start = random.randrange(len(content))
            content[start : start + random.choice([1, 4, 8])] = bytes([random.choice(BYTES)]) * random.choice([4, 8])
        case _:
            for _ in range(random.choice([1, 1, 2, 5])):
                content[random.randrange(len(content))] = random.choice([*BYTES, random.randrange(256)])
    return bytes(content)


def change_header(content, random):
    """Change the JSON header of a safetensors file, and state its length, rightly or not."""
    length = int.from_bytes(content[:8], "little")
    header, body = change_json(content[8 : 8 + length], random), content[8 + length :]
    header += b" " * (-len(header) % 8)
    stated = random.choice([len(header)] * 4 + [2**63, 2**40, 0, len(content)])
    return stated.to_bytes(8, "little") + header + body


def replace_by_other_kind(path, random):
    """Put a link, pipe, socket or folder where a file was."""
    content = path.read_bytes()
    path.unlink()
    match random.randrange(5):
        case 0:
            outside = path.parent.parent / "outside"
            outside.write_bytes(content)
            path.symlink_to(outside)
        case 1:
            path.symlink_to("/dev/zero")
        case 2:
            os.mkfifo(path)
        case 3:
            path.mkdir()
        case 4:
            path.symlink_to(path.name)


def change_manifest(directory, path, random):
    """Name other files than there are, with a right checksum."""
    manifest = json.loads(path.read_text())
    name = random.choice(sorted(manifest["files"]))
    entry = manifest["files"].pop(name)
    other = random.choice(
        ["../x", "/etc/passwd", "/dev/zero", f"./{name}", f"x/../{name}", "a\0b", "\ud800", "", name, "."]
    )
    manifest["files"][other] = random.choice([entry, {**entry, "size": -1}, {**entry, "size": 10**15}, {}, None, 3])
    manifest["payload"] = random.choice([manifest["payload"], {}, {"format": 3}, {"format": "retrank.other"}])
    write_sealed(path, manifest)


def write_sealed(path, manifest):
    content = {"payload": manifest["payload"], "files": manifest["files"]}
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    path.write_text(json.dumps({**content, "sha256": digest}))


def mutate(directory, random):
    """Damage one file of a directory in some way; return what was done."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    path = random.choice(files)
    where = path.relative_to(directory).as_posix()
    if path.name == MANIFEST:
        change_manifest(directory, path, random)
        return f"{where}: other names"
    kind = random.random()
    if kind < 0.12:
        replace_by_other_kind(path, random)
        return f"{where}: no regular file"
    content = path.read_bytes()
    if path.suffix == ".json" and kind < 0.9:
        content = change_json(content, random)
    elif path.suffix == ".safetensors" and kind < 0.6:
        content = change_header(content, random)
    else:
        content = change_bytes(content, random)
    path.write_bytes(content)
    seal(directory)
    return f"{where}: other content"
