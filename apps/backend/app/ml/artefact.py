"""A trained model as one file: plain arrays and one JSON header, in the safetensors format.

Nothing in it runs when it is opened. It is read into memory once, and those very bytes are hashed before anything of
them is looked at.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from app.errors import ArtefactRefused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT_VERSION: Final = 1
LARGEST_BYTES: Final = 256 << 20

# All of the header is under one key: safetensors writes several in an order that changes from run to run.
_HEADER_KEY: Final = "ledgermill"
_ARRAY_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_DTYPES: Final = frozenset({"bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"}) | {
    "float16", "float32", "float64",
}  # fmt: skip


@dataclass(frozen=True)
class Artefact:
    """What an artefact holds.

    Attributes:
        arrays: By name; read-only.
        header: Whatever else the model is made of, and what it says about itself.
    """

    arrays: Mapping[str, np.ndarray]
    header: Mapping[str, Any]


def encode_artefact(arrays: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> bytes:
    """Write a model into one file; equal content gives equal bytes, whatever order it comes in.

    Args:
        arrays: Of booleans, integers or floats, of any shape. Names are letters, digits, `_`, `.` and `-`.
        header: JSON, with texts as keys.

    Raises:
        ArtefactRefused: An array or the header is not as said above, a weight is not finite, or it is too large.
    """
    _check_arrays(arrays)
    try:
        text = json.dumps(
            {"format_version": FORMAT_VERSION, "header": header}, sort_keys=True, allow_nan=False, ensure_ascii=True
        )
    except (TypeError, ValueError) as error:
        raise ArtefactRefused(f"The model's header is not JSON ({error}); leave that out of it.") from None
    content = save({name: np.asarray(array, order="C") for name, array in arrays.items()}, metadata={_HEADER_KEY: text})
    if len(content) > LARGEST_BYTES:
        raise _too_large()
    return content


def read_artefact(path: Path, sha256: str) -> Artefact:
    """Read a model's file that must be, byte for byte, the one that was registered.

    Args:
        path: The file, as `resolve_artefact` found it.
        sha256: Of its bytes, in hexadecimal.

    Raises:
        ArtefactRefused: It is missing, another file, or nothing that this version opens.
    """
    content = _read_once(path)
    if not hmac.compare_digest(hashlib.sha256(content).hexdigest().encode(), sha256.encode()):
        raise ArtefactRefused(
            f"The model's file {path} is not the one that was registered: its SHA-256 differs. Put the file back from "
            "a backup, or go back to another version with `lm models rollback`."
        )
    return open_artefact(content)


def open_artefact(content: bytes) -> Artefact:
    """Open the bytes of a model's file whose hash is known to be right.

    Raises:
        ArtefactRefused: They are no artefact of this format.
    """
    if len(content) > LARGEST_BYTES:
        raise _too_large()
    try:
        arrays = load(content)
        # `load` has found the lengths to be right; it does not give the header.
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        document = json.loads(metadata[_HEADER_KEY], parse_constant=_refuse_constant)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtefactRefused(
            f"The model's file is no artefact of ours ({type(error).__name__}); train again with `lm train`."
        ) from None
    if not isinstance(document, dict) or document.get("format_version") != FORMAT_VERSION:
        raise ArtefactRefused(
            f"The model's file is of another format than {FORMAT_VERSION}, the one that this version of Ledgermill "
            "opens; train again with `lm train`."
        )
    if not isinstance(document.get("header"), dict):
        raise ArtefactRefused("The model's file has no header; train again with `lm train`.")
    _check_arrays(arrays)
    for array in arrays.values():
        array.setflags(write=False)
    return Artefact(arrays, document["header"])


def resolve_artefact(root: Path, name: str) -> Path:
    """Return the file that a stored name leads to below a folder.

    Args:
        root: The registry's folder.
        name: Relative, with `/` between its parts.

    Raises:
        ArtefactRefused: The name is no such name, or leads out of the folder, by itself or through a symbolic link.
    """
    if "\0" in name or "\\" in name or any(part in {"", ".", ".."} for part in name.split("/")):
        raise _leads_elsewhere(name)
    try:
        folder = root.resolve()
        path = (folder / name).resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, or no name that a file can have
        raise _leads_elsewhere(name) from None
    if not path.is_relative_to(folder):
        raise _leads_elsewhere(name)
    return path


def _read_once(path: Path) -> bytes:
    """Read a whole file that is an ordinary one and not too large, whatever is put in its place meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as handle:
            if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
                raise ArtefactRefused(f"{path} is no file; put the model's file back from a backup.")
            content = handle.read(LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ArtefactRefused(
            f"The model's file {path} cannot be read ({reason}). Put the file back from a backup, or go back to "
            "another version with `lm models rollback`."
        ) from None
    if len(content) > LARGEST_BYTES:
        raise _too_large()
    return content


def _check_arrays(arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if not _ARRAY_NAME.fullmatch(name):
            raise ArtefactRefused(f"{name!r} is no name of an array: use letters, digits, _, . and -.")
        if array.dtype.name not in _DTYPES:
            raise ArtefactRefused(f"The array {name} is of the type {array.dtype}; use booleans, integers or floats.")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ArtefactRefused(f"The array {name} holds weights that are not finite; train again with `lm train`.")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _too_large() -> ArtefactRefused:
    return ArtefactRefused(
        f"The model's file is larger than {LARGEST_BYTES >> 20} MiB, the largest that is opened; train a smaller one."
    )


def _leads_elsewhere(name: str) -> ArtefactRefused:
    return ArtefactRefused(
        f"{name!r} is no name of a model's file: it must lead to a file below the registry's folder."
    )
