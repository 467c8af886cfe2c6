"""Directories of safetensors files beside a `config.json`: one reader and one writer, a tensor at a time, whatever the
model's size. Importing this module imports no torch.

safetensors only: a pickle (`pytorch_model.bin`) can run code when it is read, and is refused.
"""

import json
import math
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from core.errors import UserError
from core.files import sync_directory, sync_file

if TYPE_CHECKING:
    import torch

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
WEIGHTS_FILES = ("*.safetensors", INDEX_FILE)  # patterns of their names
LARGEST_FILE_BYTES = 4 << 30

Shape = tuple[int, ...]

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_CONVERT = """\
python -c "import sys, transformers as t; m = t.AutoModelForPreTraining.from_pretrained(sys.argv[1]); \
m.save_pretrained(sys.argv[2])" {source} {target}"""


class TensorFiles:
    """The tensors in `model.safetensors`, or in the files that `model.safetensors.index.json` names.

    Args:
        framework: of the tensors that are read; "numpy" needs no torch.

    Raises:
        UserError: no such file, only a pickle, or a damaged one; the message names it.
    """

    def __init__(self, directory: Path, framework: str = "pt") -> None:
        self.directory = Path(directory)
        self._files: dict[str, Any] = {}
        self._paths: dict[str, Path] = {}
        for path in self._weight_paths():
            try:
                opened = safe_open(path, framework=framework)
                names = list(opened.keys())
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path}: is missing or damaged ({error}); copy it again") from error
            self._files |= dict.fromkeys(names, opened)
            self._paths |= dict.fromkeys(names, path)

    @property
    def names(self) -> list[str]:
        return sorted(self._files)

    def path(self, name: str) -> Path:
        """The file that holds a tensor, for messages."""
        return self._paths[name]

    def shape(self, name: str) -> Shape:
        return tuple(self._files[name].get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """As safetensors spells it: "F32", "BF16", …"""
        return self._files[name].get_slice(name).get_dtype()

    def read(self, name: str, part: tuple[slice, ...] = ()) -> "torch.Tensor":
        """A tensor, or the part of it that a slice of each dimension cuts out; no more than that is read."""
        file = self._files[name]
        try:
            return file.get_slice(name)[part] if part else file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{self.path(name)}: cannot read tensor {name!r} ({error}); copy it again"
            ) from error

    def _weight_paths(self) -> list[Path]:
        index = self.directory / INDEX_FILE
        if not index.is_file():
            if not (self.directory / WEIGHTS_FILE).is_file():
                raise UserError(self._nothing_here())
            return [self.directory / WEIGHTS_FILE]
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{index}: is not an index of safetensors files ({error}); copy it again"
            ) from error
        for name in names:
            if not isinstance(name, str) or Path(name).name != name:
                raise UserError(f"{index}: {name!r} is not a file name in the same directory")
        return [self.directory / name for name in names]

    def _nothing_here(self) -> str:
        pickles = sorted(path.name for pattern in _PICKLES for path in self.directory.glob(pattern))
        if not pickles:
            return f"{self.directory}: holds neither {WEIGHTS_FILE} nor {INDEX_FILE}"
        source = str(self.directory)
        convert = _CONVERT.format(source=shlex.quote(source), target=shlex.quote(f"{source}-safetensors"))
        return (
            f"{self.directory}: holds {', '.join(pickles)} but no safetensors files. A pickle can run code when it "
            f"is read, and is not read here. If you trust where it comes from, convert it with a transformers that "
            f"reads it, then import the result:\n  {convert}"
        )


def count_parameters(directory: Path) -> int:
    """Numbers in a model directory, the embedding's padding rows included; from the files' headers."""
    files = TensorFiles(directory, framework="numpy")
    return sum(math.prod(files.shape(name)) for name in files.names)


def writing_order(shapes: Mapping[str, Shape]) -> list[str]:
    """The names of tensors in the order in which `write_directory` asks for them."""
    return sorted(shapes)


def write_directory(
    directory: Path,
    config: Mapping[str, Any],
    shapes: Mapping[str, Shape],
    read: Callable[[str], "torch.Tensor"],
    metadata: Mapping[str, str] | None = None,
    replace: bool = False,
    copies: Mapping[str, Path] | None = None,
) -> None:
    """Write `config.json` and fp32 tensors; the directory appears whole, or not at all.

    Only one tensor is in memory at a time. Files hold at most `LARGEST_FILE_BYTES`, or one tensor.

    Args:
        shapes: of each tensor, by name.
        read: gives a tensor when its turn comes, see `writing_order`.
        metadata: in the header of every file.
        copies: small files that go with it, by their place in the directory.
        replace: what is at `directory` goes when all is written; else it may hold nothing.
    """
    directory = Path(directory)
    parts = files_of(shapes)
    temporary = begin_directory(directory)
    try:
        for name, part in zip(file_names(len(parts)), parts, strict=True):
            write_file(temporary / name, part, read, metadata)
        for place, copied in (copies or {}).items():
            (temporary / place).parent.mkdir(exist_ok=True)
            shutil.copyfile(copied, temporary / place)
            sync_file(temporary / place)
        finish_directory(directory, config, parts, replace)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def begin_directory(directory: Path) -> Path:
    """An empty folder beside a directory that is to appear; its files are to be written into it."""
    temporary = _temporary(directory)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    return temporary


def files_of(shapes: Mapping[str, Shape]) -> list[dict[str, Shape]]:
    """The tensors of each file, in the order in which they are written."""
    return [{name: shapes[name] for name in part} for part in _parts(shapes)]


def file_names(count: int) -> list[str]:
    """The names of a model's files."""
    if count == 1:
        return [WEIGHTS_FILE]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def finish_directory(
    directory: Path, config: Mapping[str, Any], parts: Sequence[Mapping[str, Shape]], replace: bool
) -> None:
    """Make the directory appear, when all its files have been written.

    Args:
        parts: the tensors of each file.
    """
    temporary = _temporary(directory)
    if len(parts) > 1:
        total = sum(_bytes(shape) for part in parts for shape in part.values())
        weight_map = {
            name: file for file, part in zip(file_names(len(parts)), parts, strict=True) for name in part
        }
        _write_json(temporary / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": weight_map})
    _write_json(temporary / CONFIG_FILE, config)
    for folder in (*filter(Path.is_dir, temporary.iterdir()), temporary):
        sync_directory(folder)
    if replace and directory.exists():
        shutil.rmtree(directory)
    os.replace(temporary, directory)  # fails where something is
    sync_directory(directory.parent)


def _temporary(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.tmp")


def refuse_existing(directory: Path) -> None:
    """For a user's own folder: nothing that is there is overwritten.

    Raises:
        UserError: there is something at `directory` other than an empty directory.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory}: exists already; remove it, or give another directory")


def _parts(shapes: Mapping[str, Shape]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for name in writing_order(shapes):
        size += _bytes(shapes[name])
        if part and size > LARGEST_FILE_BYTES:
            yield part
            part, size = [], _bytes(shapes[name])
        part.append(name)
    yield part


def _bytes(shape: Shape) -> int:
    return 4 * math.prod(shape)


def write_file(
    path: Path,
    shapes: Mapping[str, Shape],
    read: Callable[[str], "torch.Tensor"],
    metadata: Mapping[str, str] | None,
) -> None:
    """The format: the header's length (8 bytes, little-endian), the header (JSON, padded with blanks so that the
    values are aligned), the values."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + _bytes(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            values = read(name).contiguous().numpy()
            assert values.shape == shape and values.dtype == "f4", name
            stream.write(values.astype("<f4", copy=False).data.cast("B"))
    sync_file(path)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    sync_file(path)
