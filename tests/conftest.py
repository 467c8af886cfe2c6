"""Tiers of tests, and set-ups that all workers share.

`chain`: whole ways through several stages, killed and repeated (the table below, as of `long`). `ranks`: what starts a
process group, found in what a test and its fixtures call. `long`: random inputs by the thousand, time and memory at several
sizes. `fast`: everything else; such a test fails when it does start a process group, or takes long. `make test-fast` runs
the last ones, `make test` all.
"""

import fnmatch
import functools
import gc
import inspect
import logging
import multiprocessing.context
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from filelock import FileLock

from core import registry

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch and numpy start their threads
    _SHARE = len(os.sched_getaffinity(0)) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _SHARE)))
# The numbers held here are the CPU's, of more ranks than a machine has GPUs; core/test_cuda.py looks for a GPU itself.
os.environ.setdefault("CUDA_DEVICES_FOR_TESTS", os.environ.get("CUDA_VISIBLE_DEVICES", "0"))
os.environ["CUDA_VISIBLE_DEVICES"] = ""
# In the background shells ignore these two; the tests send them.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

TESTS = Path(__file__).parent
# By file or file::test, as patterns; anything else is told by what it calls.
TIERS = {
    "workflows/test_reproduction.py": "chain",
    "workflows/test_build_corpus.py": "chain",
    "workflows/test_own_records.py": "chain",
    "data_pipeline/test_resume.py": "chain",
    "data_pipeline/test_ray.py": "chain",
    "data_pipeline/test_plugins.py": "chain",
    "docs/test_guides.py": "chain",
    "workflows/test_central.py": "chain",
    "workflows/test_report_browser.py": "chain",
    "data_pipeline/test_linear_time.py": "long",
    "data_pipeline/test_near_duplicates.py": "long",
    "data_pipeline/test_pinned_ids.py": "long",
    "data_pipeline/test_reader_fuzz.py": "long",
    "data_pipeline/test_text_cuts.py": "long",
    "workflows/test_warm_ranks.py": "ranks",
    "workflows/test_slurm.py::test_a_step*": "ranks",
    "core/test_cuda.py": "ranks",
    "core/test_ranks.py": "ranks",
    "core/test_scored_places.py": "ranks",
}
# Ranks wait for each other, so two such tests at a time on two cores are slower than one after the other: with work
# stealing one worker begins with them, the other with the fast tests.
_ORDER = ("chain", "ranks", "long", "fast")
_LONG = ("test_near_duplicates.py", "test_plugins.py", "test_sample.py", "test_guides.py", "test_compile.py")
_STARTS_RANKS = {"run_distributed", "run_program", "init_process_group"}
_RANK_PROGRAMS = {"pretrain", "evaluate", "finetune"}
_LAUNCHERS = {"torchrun", "torch.distributed.run", "core.program.start"}
_FAST_SECONDS = 20.0  # of processor time, children included


def pytest_configure(config: pytest.Config) -> None:
    for tier in _ORDER:
        config.addinivalue_line("markers", f"{tier}: a tier of tests, given by tests/conftest.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(tier_of(item))
    items.sort(key=lambda item: (_ORDER.index(_tier(item)), item.path.name not in _LONG))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    """What tests are made of stays: to look through it for garbage, again and again, takes half of the time to find them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _tier(item: pytest.Item) -> str:
    return next(tier for tier in _ORDER if item.get_closest_marker(tier))


def tier_of(item: pytest.Item) -> str:
    """The tier by the table, else by what the test's code and its fixtures' refer to."""
    name = item.path.relative_to(TESTS).as_posix()
    for pattern, tier in TIERS.items():
        if any(fnmatch.fnmatch(f"{name}{test}", pattern) for test in ("", f"::{item.name}")):
            return tier
    fixtures = getattr(item, "_fixtureinfo").name2fixturedefs.values()  # noqa: B009
    functions = [item.obj, *(definition.func for definitions in fixtures for definition in definitions)]
    return "ranks" if any(starts_ranks(function, set()) for function in functions) else "fast"


def starts_ranks(thing: Any, seen: set[int]) -> bool:
    """Whether a function or class of the tests, or one that it refers to, names what starts ranks."""
    if id(thing) in seen or not _is_ours(thing):
        return False
    seen.add(id(thing))
    if inspect.isclass(thing):
        return any(starts_ranks(member, seen) for member in vars(thing).values())
    thing = inspect.unwrap(thing)
    names, constants = _mentioned(thing.__code__)
    if names & _STARTS_RANKS or constants & _LAUNCHERS or {"-m"} < constants & {"-m", *_RANK_PROGRAMS}:
        return True
    return any(starts_ranks(thing.__globals__.get(name), seen) for name in names)


def _is_ours(thing: Any) -> bool:
    return (inspect.isfunction(thing) or inspect.isclass(thing)) and _is_test_module(thing.__module__)


@functools.cache
def _is_test_module(name: str) -> bool:
    return TESTS in Path(getattr(sys.modules.get(name), "__file__", None) or "/").parents


@functools.cache
def _mentioned(code: CodeType) -> tuple[set[str], set[str]]:
    """Names and texts in a function's code, that of inner functions included."""
    names, texts = set(code.co_names), set()
    pending = list(code.co_consts)
    while pending:
        constant = pending.pop()
        if isinstance(constant, str):
            texts.add(constant)
        elif isinstance(constant, tuple | frozenset):
            pending += constant
        elif isinstance(constant, CodeType):
            names |= set(constant.co_names)
            pending += constant.co_consts
    return names, texts


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A fast test, its fixtures included, starts no process group."""
    with pytest.MonkeyPatch.context() as patch:
        if _tier(item) == "fast":
            _forbid_ranks(patch)
        return (yield)


def _forbid_ranks(patch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("a fast test starts a process group: give it the tier `ranks` in tests/conftest.py")

    open_process = subprocess.Popen.__init__

    def checked(process: subprocess.Popen, command: Any, *arguments: Any, **options: Any) -> None:
        words = {str(word) for word in command} if isinstance(command, list | tuple) else {str(command)}
        if words & _LAUNCHERS or ("-m" in words and words & _RANK_PROGRAMS and "--help" not in words):
            refuse()
        open_process(process, command, *arguments, **options)

    patch.setattr(subprocess.Popen, "__init__", checked)
    patch.setattr(multiprocessing.context.ForkServerProcess, "start", refuse)
    patch.setattr("torch.distributed.init_process_group", refuse)


def _processor_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A fast test is fast."""
    started = _processor_seconds()
    result = yield
    seconds = _processor_seconds() - started
    if _tier(item) == "fast" and seconds > _FAST_SECONDS:
        pytest.fail(
            f"a fast test took {seconds:.0f} s of processor time: make it smaller, or `chain` in tests/conftest.py"
        )
    return result


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """A folder that the first worker which asks for its name makes, and all workers read."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def make_once(name: str, make: Callable[[Path], None]) -> Path:
        folder, made = root / name, root / f"{name}.made"
        with FileLock(root / f"{name}.lock"):
            if not made.exists():
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return make_once


@pytest.fixture(autouse=True)
def _plain_logging() -> None:
    """Commands that tests, or set-ups of many, call in their own process arrange how the pipeline's messages are shown."""
    assert logging.root.manager.disable == logging.NOTSET, "an earlier test silenced all messages"
    logger = logging.getLogger("data_pipeline")
    logger.setLevel(logging.NOTSET)
    logger.propagate, logger.disabled = True, False
    logger.handlers.clear()


@pytest.fixture(autouse=True)
def _plugins_of_one_test() -> Iterator[None]:
    """Plug-ins are looked at again before each stage; those of earlier tests are gone with their folders."""
    before = dict(registry._sources)
    yield
    registry._sources.clear()
    registry._sources.update(before)
