"""`runs/latest/<name>`: a link to a recipe's newest output, where people look for it."""

import contextlib
import os
from pathlib import Path

from core.files import atomic_write
from workflows.console import say


def set_link(link: Path, directory: Path, recipe: Path) -> None:
    """Link to a finished output; say so where the link was another recipe's of the same name."""
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
