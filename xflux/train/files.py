"""One file of named arrays with a JSON text in its header (safetensors): for models and checkpoints. Never pickle."""

import json
from pathlib import Path

import numpy as np

from xflux.files import at_home, whole
from xflux.provenance import digest, plain
from xflux.reading import blamed_on

FORMAT = 1


def write(path: str | Path, kind: str, text: dict, arrays: dict[str, np.ndarray]) -> Path:
    """Write the file whole or not at all; only a file of the same kind is replaced."""
    from safetensors.numpy import save

    arrays = {k: np.ascontiguousarray(v) for k, v in arrays.items()}
    body = json.dumps(text, default=plain)
    header = {"kind": kind, "format": str(FORMAT), "json": body, "sha256": digest(body, arrays)}
    with whole(path, kind) as part:
        part.write_bytes(_in_order(save(arrays, metadata=header)))
    return at_home(path)


def _in_order(content: bytes) -> bytes:
    """The same file, equal in every process: the library writes the header's texts in an order that changes."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def read(path: str | Path, kind: str) -> tuple[dict, dict[str, np.ndarray]]:
    """The JSON text and the arrays.

    Raises FileNotFoundError, ValueError: no file, or one that is damaged, of another kind or of a newer format.
    """
    from safetensors import safe_open

    path = at_home(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: expected an {kind} that xflux wrote")
    with blamed_on(path, f"an {kind}"):
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        _check_header(path, kind, header, arrays)
        text = json.loads(header["json"])
        if not isinstance(text, dict):
            raise TypeError(f"its description is a {type(text).__name__}")
    return text, arrays


def _check_header(path: Path, kind: str, header: dict[str, str], arrays: dict[str, np.ndarray]) -> None:
    if header.get("kind") != kind:
        raise ValueError(f"{path} is no {kind} (it says {header.get('kind')!r})")
    version = header.get("format", "")
    if not version.isdigit() or int(version) > FORMAT:
        raise ValueError(f"{path} has format {version!r}; this xflux reads up to {FORMAT}: install a newer xflux")
    if "sha256" in header and header["sha256"] != digest(header.get("json", ""), arrays):
        raise ValueError(f"{path} is damaged: its contents do not have the checksum that was written; write it again")
