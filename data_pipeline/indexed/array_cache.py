"""Arrays that take time to build, kept in a hidden folder beside what they were built from.

`.<kind>-<key>/` holds one `.npy` file an array, memory-mapped when read, and `facts.json`, written last, with the
facts that the key is made of and the sha256 of each file. A folder that is cut off, corrupt or of other facts is
never used but built again. One process builds while the others wait for its lock, on several hosts as well
(see `artifacts`). The folder can be removed at any time: that costs only time. Being hidden, it is no part of an
artifact. What the arrays mean does not live here.
"""

import contextlib
import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import UserError
from core.files import atomic_write, canonical_json, exclusive, read_json, write_json
from data_pipeline.engine.hashes import hash_file

FACTS_FILE = "facts.json"
_FORMAT_VERSION = 1

Arrays = dict[str, npt.NDArray[Any]]

_log = logging.getLogger(__name__)


def cached_arrays(
    directory: Path, kind: str, facts: Mapping[str, Any], build: Callable[[], Arrays]
) -> Arrays:
    """The arrays that `build` makes, from the cache where it holds them.

    Args:
        directory: the folder in which the cache's folder lies; if it cannot be written, the arrays stay in memory.
        kind: the first part of the folder's name.
        facts: everything that determines the arrays, in JSON.
        build: makes them; called at most once.
    """
    key = hashlib.sha256(canonical_json([_FORMAT_VERSION, facts]).encode()).hexdigest()
    folder = Path(directory) / f".{kind}-{key[:16]}"
    if (arrays := _load(folder, key)) is not None:
        return arrays
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(exclusive(folder, _log.info))
        except OSError as error:
            _log.warning("%s: cannot be kept (%s): built in memory", folder, error)
            return build()
        if (arrays := _load(folder, key)) is not None:  # another process was first
            return arrays
        arrays = build()
        try:
            _store(folder, key, facts, arrays)
        except OSError as error:
            _log.warning("%s: cannot be kept (%s): stays in memory", folder, error)
            shutil.rmtree(folder, ignore_errors=True)
            return arrays
        return _load(folder, key) or arrays


def _store(folder: Path, key: str, facts: Mapping[str, Any], arrays: Arrays) -> None:
    (folder / FACTS_FILE).unlink(missing_ok=True)
    files = {}
    for name, array in arrays.items():
        path = folder / f"{name}.npy"
        with atomic_write(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, array, allow_pickle=False)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": hash_file(path)}
    write_json(folder / FACTS_FILE, {"key": key, "facts": dict(facts), "files": files})


def _load(folder: Path, key: str) -> Arrays | None:
    """The arrays of a folder, all its hashes checked; None if it is not there or not to be trusted."""
    if not (folder / FACTS_FILE).exists():
        return None
    try:
        record = read_json(folder / FACTS_FILE)
        if record["key"] != key:
            raise UserError("it was made from something else")
        arrays = {}
        for name, known in record["files"].items():
            path = folder / name
            if path.stat().st_size != known["bytes"] or hash_file(path) != known["sha256"]:
                raise UserError(f"{name} is not what was written")
            arrays[path.stem] = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        return arrays
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        _log.warning("%s: damaged (%s): built again", folder, error)
        return None
