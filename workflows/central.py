"""Beside other luigi processes at one `luigid`: whether there is one, waiting for what others make, taking over from the dead.

A worker of luigi ends when the scheduler has nothing for it, though another may be making what it wants, and a stage of
a worker that died stays "running" for a minute and then "failed" for a quarter of an hour. So what luigi asks its worker
when there is nothing to do, whether to stay, is answered here. That no stage is made twice does not depend on any of it:
`data_pipeline.engine.steps.make` holds the artifact's lock.
"""

import contextlib
import functools
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import luigi.configuration
import luigi.interface
import luigi.rpc
import luigi.worker
from luigi.cmdline_parser import CmdlineParser
from luigi.scheduler import DONE, FAILED, Scheduler

from core.processes import is_running
from core.progress import Progress

_WHERE = ("scheduler_host", "scheduler_port", "scheduler_url")
_EXIT_CODE = 40  # as of other troubles of luigi's own
_ANSWER_SECONDS = 10.0


def is_asked_for() -> bool:
    """Whether the user's configuration or command line says where a daemon is, and not that none is wanted."""
    configuration = luigi.configuration.get_config()
    written = any(
        configuration.has_option("core", name) for option in _WHERE for name in (option, f"default_{option}")
    )
    flags = {f"--{prefix}{option}".replace("_", "-") for option in _WHERE for prefix in ("", "core_")}
    return written or any(word.partition("=")[0] in flags for word in sys.argv[1:])


@functools.cache
def check_answers() -> None:
    """End a luigi command, with a message, where its daemon does not answer: luigi itself would try for a minute, and
    say so with a traceback."""
    if CmdlineParser.get_instance() is None:
        return
    settings = luigi.interface.core()
    if settings.local_scheduler or settings.scheduler_url.startswith("http+unix"):
        return
    url = settings.scheduler_url or f"http://{settings.scheduler_host}:{settings.scheduler_port}"
    try:
        urllib.request.urlopen(url, timeout=_ANSWER_SECONDS).close()
    except urllib.error.HTTPError:  # somebody is there
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        print(
            f"no scheduler answers at {url} ({reason}): start one (luigid), correct scheduler_host, scheduler_port or "
            "scheduler_url in luigi.cfg, or give --local-scheduler to do without",
            file=sys.stderr,
        )
        raise SystemExit(_EXIT_CODE) from None


def reporter(task: Any, log: Path) -> Callable[[Progress], None] | None:
    """What tells the daemon, for its page, how far a running task is, and where its log is; None without a daemon."""
    tell, percent = task.set_status_message, task.set_progress_percentage  # there while luigi runs it
    if tell is None or luigi.interface.core().local_scheduler:
        return None
    with contextlib.suppress(luigi.rpc.RPCError):
        task.set_tracking_url(log.as_uri())

    def report(progress: Progress) -> None:
        with contextlib.suppress(luigi.rpc.RPCError):  # a daemon that is away ends no stage
            tell(f"{progress.line()}\n{log}")
            if progress.total:
                percent(round(100 * progress.done / progress.total))

    return report


def stays(worker: luigi.worker.Worker, response: Any) -> bool:
    """Whether a worker that was given nothing stays and asks again, as long as another makes what it wants.

    Args:
        response: of the scheduler, when it was asked for work.
    """
    scheduler = worker._scheduler
    if isinstance(scheduler, Scheduler):  # nobody else is at it
        return False
    wanted = {name for name, task in worker._scheduled_tasks.items() if not task.complete()}
    if not wanted:
        _all_are_made(worker)
        return False
    elsewhere: dict[str, str] = worker.__dict__.setdefault("_made_elsewhere", {})
    others = [found for found in response.running_tasks if found["worker"] != worker._id]
    for found in others:
        elsewhere[found["task_id"]] = found["worker"]
        if _is_gone(found):
            scheduler.add_task(worker=found["worker"], task_id=found["task_id"], status=FAILED)
            scheduler.forgive_failures(task_id=found["task_id"])
    if others:
        return True
    states = {name: found["status"] for name, found in scheduler.dep_graph(worker._first_task).items()}
    lost = _lost(scheduler, {name for name in wanted if states.get(name) == FAILED}, elsewhere)
    for name in lost:
        scheduler.forgive_failures(task_id=name)
    # What was made, and is gone again: the scheduler believes for some seconds that it is there.
    believed = [name for name in wanted if states.get(name) == DONE]
    for name in believed:
        worker.add(worker._scheduled_tasks[name])
    return bool(lost or believed)


def _is_gone(found: Mapping[str, Any]) -> bool:
    """Whether a worker of this host is dead; of another host's the scheduler finds out when it hears nothing."""
    here = found.get("host") == socket.gethostname() and found.get("pid")
    return bool(here) and not is_running(int(found["pid"]))


def _lost(scheduler: Any, failed: set[str], elsewhere: Mapping[str, str]) -> list[str]:
    """Of stages that failed elsewhere, those whose worker is not there any more; the others' have said why they failed."""
    if not failed & elsewhere.keys():
        return []
    alive = {found["name"] for found in scheduler.worker_list(include_running=False)}
    return [name for name in failed if name in elsewhere and elsewhere[name] not in alive]


def _all_are_made(worker: luigi.worker.Worker) -> None:
    """What others made is done, for luigi's exit code too, which else says that others were running."""
    for task in list(worker._scheduled_tasks.values()):
        worker.add(task)
    worker._get_work_response_history.clear()


def install() -> None:
    """Have luigi's workers ask here, unless the user's configuration keeps them alive in luigi's own way."""
    usual = luigi.worker.Worker._keep_alive

    @functools.wraps(usual)
    def keep_alive(worker: luigi.worker.Worker, response: Any) -> bool:
        if worker._config.keep_alive or worker._stop_requesting_work:
            return bool(usual(worker, response))
        with contextlib.suppress(luigi.rpc.RPCError):
            return stays(worker, response)
        return False

    luigi.worker.Worker._keep_alive = keep_alive  # type: ignore[method-assign]
