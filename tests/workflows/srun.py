#!/usr/bin/env python3
"""Stands in for Slurm's `srun`: what it does on its own machine for a step of several tasks, told from its sources.

- Outside an allocation it makes one, and says so. Tasks are told job, step, nodes and their place.
- SIGINT: with --disable-status it goes on to the tasks at once, and a second one within a second kills them; without,
  the first one only shows their state. SIGTERM, SIGHUP, SIGQUIT kill the tasks (SIGKILL). Others go on to the tasks.
- Its exit code is the highest of its tasks', 128 + n for one that signal n ended. With --kill-on-bad-exit=1 the first
  task that fails ends the others.
- When it is killed itself, a process that it left for that kills the tasks.

TASKS_OF_SRUN names a file that gets a line a task: its process id.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

OPTIONS = (
    "--nodes",
    "--ntasks",
    "--ntasks-per-node",
    "--kill-on-bad-exit",
    "--chdir",
    "--partition",
    "--time",
    "--gpus-per-node",
)
FLAGS = ("--disable-status", "--unbuffered", "--exclusive")


def parse(words):
    options = {}
    while words and words[0].startswith("--"):
        name, equals, value = words.pop(0).partition("=")
        if name in FLAGS:
            options[name] = "1"
        elif name in OPTIONS:
            options[name] = value if equals else words.pop(0)
        else:
            sys.exit(f"srun: unrecognized option '{name}'")
    return options, words


def start(options, command):
    tasks = int(options["--ntasks"])
    environment = dict(os.environ)
    if "SLURM_JOB_ID" not in environment:
        print("srun: job 77 queued and waiting for resources", file=sys.stderr)
        print("srun: job 77 has been allocated resources", file=sys.stderr, flush=True)
        environment["SLURM_JOB_ID"] = "77"
        environment["SLURM_JOB_NODELIST"] = f"127.0.0.[1-{tasks}]" if tasks > 1 else "127.0.0.1"
    environment |= {
        "SLURM_STEP_ID": str(os.getpid() % 1000),
        "SLURM_STEP_NODELIST": environment["SLURM_JOB_NODELIST"],
        "SLURM_NTASKS": str(tasks),
        "SLURM_NNODES": options["--nodes"],
    }
    started = []
    for number in range(tasks):
        own = {
            "SLURM_PROCID": str(number),
            "SLURM_NODEID": str(number),
            "SLURMD_NODENAME": f"127.0.0.{number + 1}",
        }
        started.append(
            subprocess.Popen(
                command,
                cwd=options.get("--chdir"),
                env=environment | own,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        )
    with open(os.environ.get("TASKS_OF_SRUN", os.devnull), "a") as known:
        known.writelines(f"{task.pid}\n" for task in started)
    return started


def to_all(tasks, number):
    for task in tasks:
        if task.poll() is None:
            os.killpg(task.pid, number)


def shepherd(tasks):
    """A process that outlives this one, and then kills its tasks."""
    ours, theirs = os.pipe()
    if os.fork():
        os.close(ours)
        return theirs  # closed when this process ends, however it does
    os.close(theirs)
    for stream in (0, 1, 2):
        os.close(stream)
    os.setsid()
    os.read(ours, 1)
    for task in tasks:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(task.pid, signal.SIGKILL)
    os._exit(0)


def main():
    options, command = parse(sys.argv[1:])
    last = [float("-inf")]
    tasks = []

    def interrupted(number, frame):
        again, last[0] = time.monotonic() - last[0] < 1, time.monotonic()
        if again:
            print("srun: sending Ctrl-C, forcing job termination", file=sys.stderr, flush=True)
            to_all(tasks, signal.SIGINT)
            to_all(tasks, signal.SIGKILL)
        elif "--disable-status" in options:
            to_all(tasks, signal.SIGINT)
        else:
            print("srun: interrupt (one more within 1 sec to abort)", file=sys.stderr, flush=True)

    def ended(number, frame):
        print("srun: forcing job termination", file=sys.stderr, flush=True)
        to_all(tasks, signal.SIGKILL)

    signal.signal(signal.SIGINT, interrupted)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, ended)
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
        signal.signal(number, lambda number, frame: to_all(tasks, number))
    tasks += start(options, command)
    kept = shepherd(tasks)
    while any(task.poll() is None for task in tasks):
        if options.get("--kill-on-bad-exit") == "1" and any(task.poll() for task in tasks):
            to_all(tasks, signal.SIGKILL)
        time.sleep(0.02)
    codes = [task.returncode if task.returncode >= 0 else 128 - task.returncode for task in tasks]
    os.write(kept, b"0")
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
