"""Archives, unpacked with suspicion: `.tar` (plain, .gz, .zst, .xz, .bz2, .tgz) and `.zip`.

Only folders, files and links among the archive's own files come out of one, below the given folder, and no more than
a stated amount. `tarfile`'s data filter judges links and devices; what it would mend (an absolute name) or allow (a
name of another system's, a file twice) is refused here. Links to files become copies, so that nothing unpacked leads
elsewhere; a link to a folder is left out, for what is in that is there already, and so is one to nothing.
"""

import logging
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from core.errors import UserError
from data_pipeline.sources.formats import DAMAGE
from data_pipeline.text_files import COMPRESSIONS, UnreadableFileError, name_of, open_decompressed

MAXIMUM_BYTES = 1 << 40
MAXIMUM_FILES = 20_000_000
_BLOCK_BYTES = 1 << 20
_TAR_BLOCK_BYTES = 512
_ENCRYPTED = 0x1
_SHORT = {".tgz": ".gz", ".tbz2": ".bz2", ".txz": ".xz", ".tzst": ".zst"}
_SUFFIXES = (".tar", ".zip", *_SHORT, *(f".tar{compression}" for compression in COMPRESSIONS))
_LONGEST_LINK_BYTES = 1 << 12
_MOST_HOPS = 40  # as systems have it
_SHOWN = 5
_logger = logging.getLogger("data_pipeline")


class ArchiveError(UserError):
    """An archive is damaged, too large, or would write outside its folder; the message names it and the member."""


def is_archive(path: Path) -> bool:
    """Whether `unpack` takes a file of this name."""
    return path.name.lower().endswith(_SUFFIXES)


def unpack(
    archive: Path,
    target: Path,
    *,
    maximum_bytes: int = MAXIMUM_BYTES,
    maximum_files: int = MAXIMUM_FILES,
) -> int:
    """Unpack an archive into a folder that appears whole or not at all.

    Args:
        archive: a file that `is_archive`.
        target: the folder to make. One that is there is what an earlier call unpacked, and is kept.
        maximum_bytes: more unpacked bytes are refused.
        maximum_files: more members are refused.

    Returns:
        The number of files in the folder.

    Raises:
        ArchiveError: see there; nothing is left of what was unpacked before.
    """
    archive, target = Path(archive), Path(target)
    if not target.exists():
        temporary = target.with_name(f".{target.name}.unpacking")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        unpacking = _Unpacking(archive, temporary, maximum_bytes, maximum_files)
        try:
            unpacking.run()
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        os.replace(temporary, target)
    return sum(path.is_file() for path in target.rglob("*"))


class _Watched:
    """A stream that knows how much was read, and where the last byte was that is not zero."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.size = 0
        self.content_end = 0

    def read(self, size: int) -> bytes:
        block = self.stream.read(size)
        if content := len(block.rstrip(b"\0")):
            self.content_end = self.size + content
        self.size += len(block)
        return block


@dataclass
class _Unpacking:
    """One archive on its way into one folder."""

    archive: Path
    folder: Path
    maximum_bytes: int
    maximum_files: int
    members: int = 0
    size: int = 0
    links: dict[Path, tuple[str, Path]] = field(
        default_factory=dict
    )  # to be made at the end: name, what it leads to

    def run(self) -> None:
        try:
            self._zip() if self.archive.suffix.lower() == ".zip" else self._tar()
            self._copy_links()
        except UnreadableFileError:
            raise
        except tarfile.FilterError as error:
            raise self.error(f"{error}, which is refused") from error
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, NotImplementedError, *DAMAGE) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise  # of this machine's files, such as a full disk
            raise self.error(f"cut off or corrupt ({error}); fetch it again") from error

    def error(self, problem: str) -> ArchiveError:
        return ArchiveError(f"{self.archive}: {problem}")

    def _tar(self) -> None:
        name = name_of(self.archive)
        compression = _SHORT.get(name.suffix, name.compression)
        with open_decompressed(self.archive, compression) as content:
            watched = _Watched(content)
            with tarfile.open(fileobj=cast(Any, watched), mode="r|") as stream:
                for member in stream:
                    self._tar_member(stream, member)
            while watched.read(_BLOCK_BYTES):  # to its end, where a compressed stream has its checksum
                pass
        # A damaged header looks like the end to tarfile; the true end is a block of zeros, and nothing after it.
        if watched.content_end > stream.offset or watched.size < stream.offset + _TAR_BLOCK_BYTES:
            raise self.error("cut off or corrupt: the end mark is missing; fetch it again")

    def _tar_member(self, stream: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = self.place(member.name)
        try:
            tarfile.data_filter(member, str(self.folder))
        except NotADirectoryError as error:  # some releases of Python look at what is there
            raise self.needs_folder(member.name) from error
        if member.isdir():
            self.make_folder(path, member.name)
        elif member.isreg():
            content = stream.extractfile(member)
            assert content is not None  # regular members have content
            self.write(path, member.name, content)
        else:
            base = PurePosixPath(member.name).parent if member.issym() else PurePosixPath()
            linked = self.link(path, member.name, str(base / member.linkname))
            if member.islnk() and not (linked.is_file() or linked in self.links):
                raise self.error(f"member {member.name} is a link to {member.linkname}, no file before it")

    def _zip(self) -> None:
        with zipfile.ZipFile(self.archive) as stream:
            for member in stream.infolist():
                path = self.place(member.filename)
                if member.is_dir():
                    self.make_folder(path, member.filename)
                    continue
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFLNK):
                    raise self.error(f"member {member.filename} is a device, which is refused")
                if member.flag_bits & _ENCRYPTED:
                    raise self.error(f"member {member.filename} is encrypted; unpack it by hand")
                with stream.open(member) as content:
                    if kind == stat.S_IFLNK:
                        target = os.fsdecode(content.read(_LONGEST_LINK_BYTES))
                        base = PurePosixPath(member.filename).parent
                        self.link(path, member.filename, str(base / target))
                    else:
                        self.write(path, member.filename, content)

    def place(self, name: str) -> Path:
        """Where a member goes.

        Raises:
            ArchiveError: outside the folder, or one member too many.
        """
        self.members += 1
        if self.members > self.maximum_files:
            raise self.error(f"more than {self.maximum_files:,} members, which is refused")
        pure = PurePosixPath(name.replace("\\", "/"))
        if pure.is_absolute() or ".." in pure.parts or ":" in (pure.parts or ("",))[0]:
            raise self.error(f"member {name} would be outside the folder, which is refused")
        path = self.folder / pure
        if behind := next((link for link in path.parents if link in self.links), None):
            raise self.error(f"member {name} lies behind the link {self.links[behind][0]}, which is refused")
        return path

    def link(self, path: Path, name: str, target: str) -> Path:
        """Remember a link to what, from the top of the archive, may come later; returns where that would be.

        Raises:
            ArchiveError: it leads outside the folder, or its name is there already.
        """
        inside = PurePosixPath(os.path.normpath(target.replace("\\", "/")))
        if inside.is_absolute() or ".." in inside.parts:
            raise self.error(f"member {name} is a link outside the folder, which is refused")
        if path.exists() or path in self.links:
            raise self.error(f"member {name} is there twice, which is refused")
        self.links[path] = (name, self.folder / inside)
        return self.folder / inside

    def _copy_links(self) -> None:
        """Make copies of the files that links lead to; the other links are left out, and logged."""
        left_out = []
        for path, (name, target) in self.links.items():
            for _ in range(_MOST_HOPS):  # over other links, which may lead in a circle
                link = next((place for place in (target, *target.parents) if place in self.links), None)
                if link is None:
                    break
                target = self.links[link][1] / target.relative_to(link)
            if target.is_file():
                with target.open("rb") as content:
                    self.write(path, name, content)
            else:
                left_out.append(name)
        if left_out:
            shown = ", ".join(left_out[:_SHOWN])
            _logger.warning(
                "%s: %d links to folders or to nothing are left out (%s)", self.archive, len(left_out), shown
            )

    def make_folder(self, path: Path, name: str) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise self.needs_folder(name) from error

    def needs_folder(self, name: str) -> ArchiveError:
        return self.error(f"member {name} needs a folder where a file is, which is refused")

    def write(self, path: Path, name: str, content: IO[bytes]) -> None:
        if path.exists():
            raise self.error(f"member {name} is there twice, which is refused")
        self.make_folder(path.parent, name)
        with path.open("wb") as stream:
            while block := content.read(_BLOCK_BYTES):
                self.size += len(block)
                if self.size > self.maximum_bytes:
                    raise self.error(f"unpacks to more than {self.maximum_bytes:,} bytes, which is refused")
                stream.write(block)
