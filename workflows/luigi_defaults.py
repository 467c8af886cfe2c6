"""What Luigi does by default, as our commands need it."""

import importlib
from typing import Any

import luigi.configuration

from workflows import central, command_line

# Luigi reads its configuration from the working directory only; these defaults make the command work from anywhere,
# without a scheduler daemon (unless one is named) and without noise. What the user's own configuration or flags say wins.
_LUIGI_DEFAULTS = {
    "core": {"local_scheduler": "true", "no_lock": "true", "log_level": "WARNING"},
    "worker": {"check_complete_on_run": "true", "wait_jitter": "0.5"},
    "scheduler": {
        "retry_delay": "-1"
    },  # what failed is not tried again, though another stage may run for hours
    "retcode": {
        "already_running": "10",
        "missing_data": "20",
        "not_run": "25",
        "task_failed": "30",
        "scheduling_error": "35",
        "unhandled_exception": "40",
    },
}


def install() -> None:
    """Set them, and have Luigi speak of our tasks and work beside others."""
    configuration = luigi.configuration.get_config()
    for section, options in _LUIGI_DEFAULTS.items():
        for option, value in options.items():
            unwanted = option == "local_scheduler" and central.is_asked_for()
            if not unwanted and not configuration.has_option(section, option):
                configuration.set(section, option, value)
    central.install()
    command_line.install(_known)


def _known() -> list[Any]:
    """What the package has to offer."""
    package = importlib.import_module("workflows")  # by name: it imports this module's users
    return [getattr(package, name) for name in package.__all__]
