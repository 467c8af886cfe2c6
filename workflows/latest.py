"""`runs/latest/<name>`: a link to a recipe's newest output, where people look for it."""

import contextlib
import filecmp
import os
import shutil
from pathlib import Path

from core.errors import UserError
from core.files import atomic_write
from workflows.console import say


def set_link(link: Path, directory: Path, recipe: Path) -> None:
    """Link to a finished output; say so where the link was another recipe's of the same name.

    Where links were followed when the folder was copied, a second copy of an output stands there, and goes.

    Raises:
        UserError: there is something else.
    """
    if link.exists() and not link.is_symlink():
        if not any(_is_copy(link, output) for output in directory.parent.iterdir()):
            raise UserError(
                f"{link}: is no link, as it must be to lead to {directory}: move it away, and give the same command again"
            )
        shutil.rmtree(link)
    link.parent.mkdir(parents=True, exist_ok=True)
    whose = link.with_name(f".{link.name}.recipe")
    with contextlib.suppress(OSError):
        before = whose.read_text(encoding="utf-8").strip()
        if before != str(recipe) and link.is_symlink():
            say(
                f"note: {link} was of {before}, and is now of {recipe}: give them different names ([recipe] name), or "
                f"folders (--runs). The other is still in {os.path.realpath(link)}"
            )
    with atomic_write(whose) as temporary:
        temporary.write_text(f"{recipe}\n", encoding="utf-8")
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(directory, link.parent))
    os.replace(temporary, link)


def _is_copy(folder: Path, output: Path) -> bool:
    """Whether a folder holds an output's files, byte for byte, and nothing else."""
    names = _names(folder)
    return names == _names(output) and not any(filecmp.cmpfiles(folder, output, names, shallow=False)[1:])


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
