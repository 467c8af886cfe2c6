"""Token ids are rows of tables: one that is none of the vocabulary's is found where batches are made, and named.

On several tensor ranks nobody could look it up and nobody would say so; in the vocabulary's padding it has a row of its
own. So every maker of batches calls this, which costs a pass over some integers.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import UserError


def check_token_ids(
    ids: npt.NDArray[Any], vocabulary_size: int, where: Callable[[int, int], str], remedy: str
) -> None:
    """Check that all ids are tokens of the vocabulary.

    Args:
        ids: integers of any shape.
        where: says where an id is from, given its place in the flattened `ids` and the id.
        remedy: the end of the message.

    Raises:
        UserError: for the first id that is none.
    """
    if not ids.size or (ids.min() >= 0 and ids.max() < vocabulary_size):
        return
    place = int(np.flatnonzero((ids < 0) | (ids >= vocabulary_size))[0])
    wrong = int(ids.flat[place])
    raise UserError(
        f"{where(place, wrong)}: token id {wrong} is none of the {vocabulary_size} tokens of the vocabulary; {remedy}"
    )
