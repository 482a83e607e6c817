"""A model's file: equal content gives equal bytes, and whatever is not exactly what was registered is refused."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pickle
import random
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save

from app.config import BACKEND_DIR
from app.errors import ArtefactRefused
from app.ml import artefact
from app.ml.artefact import encode_artefact, open_artefact, read_artefact, resolve_artefact

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CORRUPTIONS = 500

ARRAYS = {
    "weights": np.linspace(-1, 1, 300, dtype=np.float32).reshape(3, 100),
    "bias": np.array([0.1, -0.2, 0.3]),
    "hashes": np.arange(100, dtype=np.uint32),
    "known": np.array([True, False]),
    "temperature": np.array(1.25),
}
HEADER = {"recipe": "test-1", "classes": ["Café", "Fuel", "Rent"], "thresholds": {"b": 0.5, "a": 0.25}}


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    content = encode_artefact(ARRAYS, HEADER)
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    read = read_artefact(path, sha256_of(content))
    assert read.header == HEADER
    assert read.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read.arrays[name], array, strict=True)
    with pytest.raises(ValueError, match="read-only"):
        read.arrays["bias"][0] = 1


def test_equal_content_gives_equal_bytes_in_whatever_order_it_comes() -> None:
    turned = {name: ARRAYS[name] for name in reversed(ARRAYS)} | {"weights": np.asfortranarray(ARRAYS["weights"])}
    header = {name: HEADER[name] for name in reversed(HEADER)}
    assert encode_artefact(turned, header) == encode_artefact(ARRAYS, HEADER)
    program = (
        "import sys; sys.path.insert(0, 'tests/unit'); import hashlib, test_artefact as t;"
        "print(hashlib.sha256(t.encode_artefact(t.ARRAYS, t.HEADER)).hexdigest())"
    )
    for seed in ("1", "2"):
        printed = subprocess.run(
            [sys.executable, "-c", program],
            cwd=BACKEND_DIR,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert printed.stdout.strip() == sha256_of(encode_artefact(ARRAYS, HEADER))


# --- five hundred corruptions ---------------------------------------------------------------------------------------


def flip_bits(content: bytes, chance: random.Random) -> bytes:
    flipped = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        flipped[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(flipped) if bytes(flipped) != content else content[:-1]


def truncate(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def append(content: bytes, chance: random.Random) -> bytes:
    return content + chance.randbytes(chance.randint(1, 64))


def swap_for_another(_content: bytes, chance: random.Random) -> bytes:
    return encode_artefact({"bias": np.array([chance.random()])}, HEADER)


def swap_for_a_pickle(_content: bytes, chance: random.Random) -> bytes:
    return pickle.dumps({"weights": [chance.random()]}, protocol=chance.randint(0, 5))


CONTENT_CORRUPTIONS = (flip_bits, truncate, append, swap_for_another, swap_for_a_pickle)


def bad_name(chance: random.Random) -> str:
    kinds = [
        "/etc/passwd",
        "../" * chance.randint(1, 9) + "outside/model.safetensors",
        f"run{chance.random()}/../../outside/model.safetensors",
        "link/model.safetensors",
        "file-link",
        "run/model.safetensors\0.txt",
        "",
        "run//model.safetensors",
        "./run/model.safetensors",
        "run\\..\\..\\outside",
        "loop/model.safetensors",
        "x" * 5000,
        f"run/missing-{chance.random()}",
        "run",
    ]
    return chance.choice(kinds)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A registry's folder with a model, and beside it the very same model where no name may lead."""
    root, outside = tmp_path / "mlflow", tmp_path / "outside"
    for folder in (root / "run", outside):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(encode_artefact(ARRAYS, HEADER))
    (root / "link").symlink_to(outside)
    (root / "file-link").symlink_to(outside / "model.safetensors")
    (root / "loop").symlink_to(root / "loop")
    return root


def open_as_serving_does(root: Path, name: str, sha256: str) -> artefact.Artefact:
    return read_artefact(resolve_artefact(root, name), sha256)


def test_five_hundred_corruptions_are_five_hundred_refusals(root: Path) -> None:
    good = encode_artefact(ARRAYS, HEADER)
    path = root / "run" / "model.safetensors"
    chance = random.Random(20261125)  # noqa: S311 -- repeatable, and no secret
    refused = 0
    for number in range(CORRUPTIONS):
        name = "run/model.safetensors"
        if number % 6 == 5:
            name = bad_name(chance)
            path.write_bytes(good)
        else:
            corrupt = CONTENT_CORRUPTIONS[number % 6]
            path.write_bytes(corrupt(good, chance))
        with pytest.raises(ArtefactRefused) as refusal:
            open_as_serving_does(root, name, sha256_of(good))
        assert str(refusal.value).endswith(".")
        refused += 1
    assert refused == CORRUPTIONS
    path.write_bytes(good)
    assert open_as_serving_does(root, "run/model.safetensors", sha256_of(good)).header == HEADER


def test_nothing_of_a_file_is_opened_before_its_hash_is_right(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(_content: bytes) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(artefact, "load", explode)
    with pytest.raises(ArtefactRefused, match="SHA-256 differs"):
        read_artefact(root / "run" / "model.safetensors", "0" * 64)
    with pytest.raises(AssertionError, match="opened"):
        read_artefact(root / "run" / "model.safetensors", sha256_of(encode_artefact(ARRAYS, HEADER)))


# --- refused though the hash is right -------------------------------------------------------------------------------


def with_metadata(metadata: dict[str, str] | None, arrays: dict[str, Any] | None = None) -> bytes:
    return save(arrays or {"bias": np.zeros(2)}, metadata=metadata)


def with_document(document: Any) -> bytes:
    return with_metadata({"ledgermill": document if isinstance(document, str) else json.dumps(document)})


GOOD_DOCUMENT = {"ledgermill": json.dumps({"format_version": 1, "header": {}})}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        pickle.dumps(HEADER),
        b"PK\x03\x04 a zip",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 5) + b"[1,2]",
        encode_artefact(ARRAYS, HEADER)[:-1],
        encode_artefact(ARRAYS, HEADER) + b"\0",
        with_metadata(None),
        with_metadata({"another": "key"}),
        with_document("no JSON"),
        with_document('{"format_version": 1, "header": {"threshold": NaN}}'),
        with_document("[" * 100_000),
        with_document([1]),
        with_document({"format_version": 2, "header": {}}),
        with_document({"header": {}}),
        with_document({"format_version": 1, "header": "text"}),
        with_metadata(GOOD_DOCUMENT, {"bias": np.array([0.0, np.nan])}),
        with_metadata(GOOD_DOCUMENT, {"bias": np.array([np.inf], dtype=np.float32)}),
        with_metadata(GOOD_DOCUMENT, {"../bias": np.zeros(2)}),
        with_metadata(GOOD_DOCUMENT, {"bias": np.zeros(2, dtype=np.complex64)}),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_a_file_of_another_kind_is_refused_in_a_sentence(content: bytes) -> None:
    with pytest.raises(ArtefactRefused) as refusal:
        open_artefact(content)
    assert str(refusal.value).endswith(".")


@pytest.mark.parametrize(
    "array",
    [
        np.array([object()]),
        np.array(["text"]),
        np.array([1 + 2j]),
        np.array([np.nan]),
        np.array([-np.inf], dtype=np.float16),
        np.array(["2026-01-01"], dtype="datetime64[D]"),
    ],
    ids=lambda array: str(array.dtype),
)
def test_what_is_no_plain_finite_array_is_not_written(array: np.ndarray) -> None:
    with pytest.raises(ArtefactRefused):
        encode_artefact({"weights": array}, {})


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b", "a\0", "é", "-a", "x" * 201])
def test_a_name_that_is_none_is_not_written(name: str) -> None:
    with pytest.raises(ArtefactRefused, match="no name of an array"):
        encode_artefact({name: np.zeros(1)}, {})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"bytes"])
def test_a_header_that_is_no_json_is_not_written(value: Any) -> None:
    with pytest.raises(ArtefactRefused, match="not JSON"):
        encode_artefact({}, {"value": value})


def test_a_file_that_is_too_large_is_neither_written_nor_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encode_artefact(ARRAYS, HEADER)
    path = tmp_path / "model"
    path.write_bytes(content)
    monkeypatch.setattr(artefact, "LARGEST_BYTES", len(content) - 1)
    refused: list[Callable[[], object]] = [
        lambda: encode_artefact(ARRAYS, HEADER),
        lambda: open_artefact(content),
        lambda: read_artefact(path, sha256_of(content)),
    ]
    for attempt in refused:
        with pytest.raises(ArtefactRefused, match="larger than"):
            attempt()


def test_neither_a_pipe_nor_a_folder_nor_a_link_is_read(tmp_path: Path) -> None:
    content = encode_artefact(ARRAYS, HEADER)
    (tmp_path / "model").write_bytes(content)
    (tmp_path / "link").symlink_to(tmp_path / "model")
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "link", "missing", ""):
        with pytest.raises(ArtefactRefused):
            read_artefact(tmp_path / name, sha256_of(content))


# --- no pickle ------------------------------------------------------------------------------------------------------


UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "pickletools"}


def unpickling_in(source: str) -> list[str]:
    """Give what of a module could make Python objects out of a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found.append("pickle")
    return [name for name in found if name.split(".")[0] in UNPICKLERS]


def test_no_module_of_ours_can_unpickle() -> None:
    assert unpickling_in("import joblib\nfrom pickle import load\nload(x, allow_pickle=True)") == [
        "joblib",
        "pickle",
        "pickle",
    ]
    modules = list((BACKEND_DIR / "app").rglob("*.py"))
    assert len(modules) > 80
    assert {path.name: unpickling_in(path.read_text()) for path in modules if unpickling_in(path.read_text())} == {}


def test_serving_and_the_command_line_load_neither_mlflow_nor_a_pickler_of_models() -> None:
    program = (
        "import sys, app.main, app.cli, app.ml.artefact;"
        "print(sorted({'mlflow', 'cloudpickle', 'joblib', 'dill', 'sklearn'} & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=BACKEND_DIR, capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "[]"
