"""Which ranks still go on: asked through the store by which they met, which needs no connection between ranks, and no
rank's main thread. Not here: when it is asked (`watchdog`, `safety`)."""

import datetime
import itertools
import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch.distributed as dist
from torch.distributed.distributed_c10d import _get_default_store

from core.parallel.mesh import Mesh

LONGEST = datetime.timedelta(seconds=60)
_BETWEEN_LOOKS = 0.2  # seconds
_calls = itertools.count()  # of `train` on this process, which all ranks call together


@dataclass(frozen=True)
class Standing:
    """What a rank says of itself.

    Attributes:
        marks: how far it is: the more, the farther.
        at: where it is, for people.
        waits: for other ranks, or the device.
        seconds: since it last got on.
    """

    marks: int
    at: str
    waits: bool
    seconds: float


@dataclass(frozen=True)
class Found:
    """What a roll call found: for people, and which ranks have answered."""

    text: str
    answered: list[int]


class RollCall:
    """One rank's part in the roll call of a training. Its methods may be called from any thread."""

    def __init__(self, mesh: Mesh) -> None:
        self._rank, self._ranks = mesh.rank, mesh.world_size
        # A store is locked while somebody waits for a key of it, so this is another connection to the same.
        default: Any = _get_default_store
        store = default().clone() if self._ranks > 1 else dist.HashStore()
        self._store = dist.PrefixStore(f"roll call {next(_calls)}", store)
        self._longest = min(mesh.timeout, LONGEST).total_seconds()

    def called(self) -> bool:
        """Whether some rank has called."""
        return self._store.check(["called"])

    def answer(self, standing: Standing) -> None:
        self._store.set(str(self._rank), json.dumps(asdict(standing)))

    def hold(self, standing: Standing) -> Found:
        """Call, answer, and wait for the others, at most a minute: who is missing, and who is elsewhere."""
        try:
            self._store.set("called", "")
            self.answer(standing)
            deadline = time.monotonic() + self._longest
            everyone = [str(rank) for rank in range(self._ranks)]
            while not self._store.check(everyone) and time.monotonic() < deadline:
                time.sleep(_BETWEEN_LOOKS)
            answered = [rank for rank in range(self._ranks) if self._store.check([str(rank)])]
            standings = {rank: Standing(**json.loads(self._store.get(str(rank)))) for rank in answered}
            if self._rank == 0:  # the store may end with this process
                time.sleep(5 * _BETWEEN_LOOKS)
        except RuntimeError:  # the store is gone, and with it who kept it
            text = "the ranks' store does not answer either, so that rank 0 or what started the ranks is gone"
            return Found(text, [self._rank])
        return Found(_text(standings, self._ranks), answered)


def lost_rank(what: str, found: Found) -> str:
    """For people, after a roll call.

    Args:
        what: happened.
    """
    return (
        f"{what}: {found.text}. Look at that rank's host and log; the same command goes on from the last checkpoint. If "
        "the rank was only slow, give a longer --timeout-minutes"
    )


def _text(standings: dict[int, Standing], ranks: int) -> str:
    """Whom to look at: ranks that are silent; or else those that do not wait for others; or those that are behind."""
    silent = [rank for rank in range(ranks) if rank not in standings]
    lines = [f"{_named(silent)} not answer"] if silent else []
    busy = [rank for rank, standing in standings.items() if not standing.waits]
    if not busy and not silent:
        least = min(standing.marks for standing in standings.values())
        behind = [rank for rank, standing in standings.items() if standing.marks == least]
        busy = behind if len(behind) < ranks else []
    for rank in busy[:5]:
        standing = standings[rank]
        lines.append(f"rank {rank} does not get on: it has been {standing.at} for {standing.seconds:.0f} s")
    if len(busy) > 5:
        lines.append(f"nor do {len(busy) - 5} more")
    if not lines:
        places = dict.fromkeys(standing.at for standing in standings.values())
        lines.append(
            f"all ranks still answer, so that one of them was only late; they were {', '.join(places)}"
        )
    return "; ".join(lines)


def _named(ranks: list[int]) -> str:
    listed = ", ".join(map(str, ranks[:20])) + (f" and {len(ranks) - 20} more" if len(ranks) > 20 else "")
    return f"rank {listed} does" if len(ranks) == 1 else f"ranks {listed} do"
