"""What a model answered, a row each, as a Parquet file that says what was asked. pyarrow is imported where it is needed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import atomic_write, canonical_json
from core.program.asked import refuse_other

_ASKED = b"asked"  # in the file's metadata
_REMEDY = "remove it to write it anew"


def write_predictions(path: Path, columns: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Write a table whole or not at all.

    Args:
        columns: a sequence each: row, target, prediction, log_probability (nats), right.
        asked: of the result that it belongs to.
    """
    arrow, parquet = _pyarrow(path)
    table = arrow.table({name: arrow.array(values) for name, values in columns.items()})
    table = table.replace_schema_metadata({_ASKED: canonical_json(asked).encode()})
    with atomic_write(path) as temporary:
        parquet.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def check_predictions(path: Path, asked: Mapping[str, Any]) -> bool:
    """Whether the file is there.

    Raises:
        UserError: it is, and is no such file or was asked with something else; or pyarrow is not installed.
    """
    arrow, parquet = _pyarrow(path)
    if not path.exists():
        return False
    try:
        metadata = parquet.read_schema(path).metadata or {}
        made = json.loads(metadata[_ASKED]) if _ASKED in metadata else None
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"{path}: no predictions of an evaluation ({error}); give another --predictions"
        ) from error
    refuse_other(path, "what was predicted there", made, asked, _REMEDY)
    return True


def _pyarrow(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            f"{path}: writing predictions needs pyarrow; install it, or leave --predictions out"
        ) from error
    return pyarrow, pyarrow.parquet
