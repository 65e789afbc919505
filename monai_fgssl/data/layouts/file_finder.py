# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Find files by the names in a list, which may come from another system."""

from __future__ import annotations

import difflib
import filecmp
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from monai_fgssl.utils.errors import first_names

from .image_files import IMAGE_SUFFIXES, is_ignored, is_image, is_mask, scan_folder, without_suffix

__all__ = ["FileFinder", "Found"]

SAME_SUFFIX = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif"}
"""Different suffixes of the same format."""


@dataclass(frozen=True)
class Found:
    """Files for the names of a list.

    Attributes:
        files: for each name the file, or the folder of a series; None where there is none, or more than one.
        missing: names without a file, each with the most similar name.
        ambiguous: names that several different files could have.
        notes: sentences on files whose name or folder differs from the list.
    """

    files: list[Path | None]
    missing: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of names that have a file."""
        return sum(file is not None for file in self.files)


class FileFinder:
    """Finds the files of a list.

    A name is looked up in the folder of the list first. It may lack its suffix, have backslashes, and differ in case,
    in the composition of its letters (NFC, NFD) and in spaces around it. Names that are not there are looked for in
    the folders below; if no name at all is found, the first folders of all names are left out, the same number
    for all, since a list may come from another machine.

    Args:
        root: folder that relative names start at.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listings: dict[Path, _Listing] = {}

    def find_all(self, names: Sequence[str]) -> Found:
        """Find all names of a list."""
        paths = [PurePosixPath(name.replace("\\", "/")) for name in names]
        results = [self._in_its_folder(name, path) for name, path in zip(names, paths, strict=True)]
        notes: list[str] = []
        if any(not result for result in results):
            results, note = self._look_below(paths, results)
            notes += note
        files: list[Path | None] = []
        ambiguous: list[str] = []
        for name, result in zip(names, results, strict=True):
            if len(result) > 1 and not _all_equal(result):
                ambiguous.append(f"{name}: {first_names([self._shown(file) for file in result], 2)}")
                files.append(None)
                continue
            files.append(result[0] if result else None)
        copies = sum(len(result) > 1 for result in results) - len(ambiguous)
        if copies:
            notes.append(f"{copies} images are there more than once, in equal files: the first one is taken")
        missing = [name for name, result in zip(names, results, strict=True) if not result]
        if missing:
            missing[0] += self._hint(missing[0])
        return Found(files, missing, ambiguous, tuple(notes))

    def beside(self, files: Sequence[Path]) -> list[Path]:
        """Images in the same folders as these files with other names. Folders below are not searched."""
        taken = {(file.parent, without_suffix(file.name)) for file in files}
        found: list[Path] = []
        for folder in sorted({file.parent for file in files}):
            names = self._listing(folder).files
            stems = {without_suffix(name).casefold() for name in names}
            images = (folder / name for name in sorted(names) if is_image(folder / name) and not is_mask(name, stems))
            found += [image for image in images if (folder, without_suffix(image.name)) not in taken]
        return found

    def _look_below(
        self, paths: Sequence[PurePosixPath], results: Sequence[list[Path]]
    ) -> tuple[list[list[Path]], list[str]]:
        """Search the folders below for names that are not in their folder. Returns a note on where they were."""
        below = [result or self._below(path.parts) for result, path in zip(results, paths, strict=True)]
        skipped = 0
        if not any(below):
            skipped, below = self._without_first_folders(paths)
        moved = [new[0] for old, new in zip(results, below, strict=True) if new and not old]
        if not moved:
            return below, []
        places = Counter(_top_folder(self.root, file) for file in moved).most_common()
        without = f", without the first {skipped} folders of their paths" if skipped else ""
        told = first_names([f"{place} {count}" for place, count in places])
        return below, [f"{len(moved)} images are looked up by name{without} (in {told})"]

    def _in_its_folder(self, name: str, path: PurePosixPath) -> list[Path]:
        """Files of a name, exactly in the folder that it names."""
        if not name:
            return []
        exact = self.root / name
        listing = self._listing(exact.parent)
        if exact.name in listing.files:
            return [exact]
        folder = self.root / path.parent
        return self._listing(folder).matching(path.name)

    def _below(self, parts: Sequence[str]) -> list[Path]:
        """Files anywhere below the root whose path ends like the name."""
        if not parts:
            return []
        folders = tuple(map(_key, parts[:-1]))

        def fits(path: Path) -> bool:
            parents = tuple(map(_key, path.relative_to(self.root).parts[:-1]))
            return _same_suffix(parts[-1], path.name) and parents[max(0, len(parents) - len(folders)) :] == folders

        candidates = [path for path in self._all_files.get(_key(without_suffix(parts[-1])), []) if fits(path)]
        files = [path for path in candidates if not path.is_dir()]
        return _nearest(parts[-1], files or candidates)

    def _without_first_folders(self, paths: Sequence[PurePosixPath]) -> tuple[int, list[list[Path]]]:
        """The smallest number of first folders to leave out so that some name is found."""
        deepest = max((len(path.parts) for path in paths), default=1)
        for skipped in range(1, deepest):
            results = [self._below(path.parts[skipped:]) for path in paths]
            if any(results):
                return skipped, results
        return 0, [[] for _ in paths]

    def _listing(self, folder: Path) -> _Listing:
        if folder not in self._listings:
            self._listings[folder] = _Listing(folder)
        return self._listings[folder]

    @cached_property
    def _all_files(self) -> dict[str, list[Path]]:
        """Images below the root, and the folders that have some, by the keys of their names."""
        found: dict[str, list[Path]] = defaultdict(list)
        images, _ = scan_folder(self.root)
        folders = {folder for image in images for folder in image.parents if self.root in folder.parents}
        for path in (*images, *sorted(folders)):
            found[_key(without_suffix(path.name))].append(path)
        return found

    def _hint(self, name: str) -> str:
        key = _key(without_suffix(PurePosixPath(name.replace("\\", "/")).name))
        # Spreadsheets remove leading zeros from numbers.
        unpadded = (known for known in self._all_files if key and known.lstrip("0") == key.lstrip("0"))
        # pandas turns 7 into 7.0 in a column with missing values.
        key = key.removesuffix(".0")
        near = [key] if key in self._all_files else difflib.get_close_matches(key, self._all_files, 1, 0.85)
        nearest = next(iter(near), None) or next(unpadded, None)
        return "" if nearest is None else f" (is {self._shown(self._all_files[nearest][0])} meant?)"

    def _shown(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)


class _Listing:
    """Content of a folder, by exact names and by keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: set[str] = set()
        self._by_key: dict[str, list[Path]] = defaultdict(list)
        folders: list[str] = []
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            return
        for entry in entries:
            if entry.is_dir():
                folders.append(entry.name)
            else:
                self.files.add(entry.name)
        for name in (*sorted(self.files), *folders):
            if not is_ignored(name):
                self._by_key[_key(without_suffix(name))].append(folder / name)

    def matching(self, name: str) -> list[Path]:
        """Images that a name may mean; folders, such as those of a series, if there is no such image."""
        candidates = [
            path for path in self._by_key.get(_key(without_suffix(name)), []) if _same_suffix(name, path.name)
        ]
        files = [path for path in candidates if path.name in self.files and _is_whole(name, path)]
        return _nearest(name, files or [path for path in candidates if path.name not in self.files])


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).strip()


def _suffix(name: str) -> str:
    lower = name.strip().lower()
    found = next((suffix for suffix in IMAGE_SUFFIXES if lower.endswith(suffix)), "")
    return SAME_SUFFIX.get(found, found)


def _same_suffix(name: str, file: str) -> bool:
    """True if a file has the suffix of the name in the list, if that has one."""
    return _suffix(name) in ("", _suffix(file))


def _is_whole(name: str, path: Path) -> bool:
    """True if a file is an image, or has exactly this name."""
    return bool(_suffix(path.name)) or _key(path.name) == _key(name)


def _nearest(name: str, candidates: Sequence[Path]) -> list[Path]:
    """Of files that differ only in case or composition, choose the one that is written as in the list."""
    exact = [path for path in candidates if name in (path.name, without_suffix(path.name))]
    return exact if len(exact) == 1 else list(candidates)


def _all_equal(files: Sequence[Path]) -> bool:
    return all(file.is_file() and filecmp.cmp(files[0], file, shallow=False) for file in files)


def _top_folder(root: Path, file: Path) -> str:
    parts = file.relative_to(root).parts
    return parts[0] + "/" if len(parts) > 1 else "./"
