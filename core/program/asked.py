"""What a result was asked with: kept in it, and compared when the same output is asked for again, so that nothing is ever
taken for something else."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist

from core.errors import UserError, message_for_user
from core.files import canonical_json, read_json, write_json
from core.parallel.mesh import Mesh
from core.training.records import read_state

ASKED = "asked"  # in a result
ASKED_FILE = "asked.json"  # in a training's output
_SHOWN = 8  # differences in a message
_LONGEST_SHOWN = 60  # characters of a value in a message


def from_main(mesh: Mesh, find: Callable[[], Any]) -> Any:
    """What `find` gives on the main rank, on every rank. Collective.

    Raises:
        UserError: on every rank, what a user can cause on the main one.
    """
    answer: list[Any] = [None, None]
    if mesh.is_main:
        try:
            answer[0] = find()
        except Exception as error:
            answer[1] = message_for_user(error)
            if answer[1] is None:
                raise
    dist.broadcast_object_list(answer, src=0, group=mesh.control_group)
    if answer[1] is not None:
        raise UserError(answer[1])
    return answer[0]


def check_asked(output: Path, asked: Mapping[str, Any]) -> None:
    """Keep what a training is asked with in its output, `asked.json`; the main rank calls it.

    Raises:
        UserError: what is trained there, or has checkpoints, was asked with something else, or a finished one does not
            say with what. (Of one under way the checkpoints say it, too.)
    """
    path = output / ASKED_FILE
    finished = read_state(output).get("status") == "finished"
    known = path.exists()
    if finished or (known and any(output.glob("checkpoints/step-*"))):
        made = read_json(path) if known else None
        refuse_other(output, "the training there", made, asked, "remove it to train anew")
    else:
        write_json(path, asked)


def finished_result(path: Path, asked: Mapping[str, Any], remedy: str) -> dict[str, Any] | None:
    """The finished result in a file, None where there is none.

    Args:
        remedy: what to do instead of giving another --output.

    Raises:
        UserError: it was asked with something else, or does not say with what.
    """
    if not path.exists():
        return None
    result = read_json(path)
    made = result.get(ASKED) if isinstance(result, dict) else None
    refuse_other(path, "the result there", made, asked, remedy)
    return result


def refuse_other(
    where: Path, what: str, made: Mapping[str, Any] | None, asked: Mapping[str, Any], remedy: str
) -> None:
    """Name what differs between what was made and what is asked.

    Raises:
        UserError: something does, or it is not known with what it was made.
    """
    if made is None:
        raise UserError(
            f"{where}: {what} does not say what it was asked with; {remedy}, or give another --output"
        )
    if lines := differences(made, json.loads(canonical_json(asked))):
        more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise UserError(
            f"{where}: {what} was asked with something else: {'; '.join(lines[:_SHOWN] + more)}; {remedy}, or give "
            "another --output"
        )


def differences(made: Any, asked: Any, name: str = "") -> list[str]:
    """What differs between two records, a line each: "settings.epochs was 3, is 2"."""
    if isinstance(made, Mapping) and isinstance(asked, Mapping):
        keys = list(dict.fromkeys([*made, *asked]))
        parts = [
            differences(made.get(key), asked.get(key), f"{name}.{key}" if name else str(key)) for key in keys
        ]
        return [line for part in parts for line in part]
    if made == asked:
        return []
    return [f"{name} was {_brief(made)}, is {_brief(asked)}"]


def _brief(value: Any) -> str:
    text = "not given" if value is None else str(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
