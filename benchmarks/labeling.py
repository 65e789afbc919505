# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Measure what people wait for at the labeling page, on a real server of MONAI Label.

    python -m benchmarks.labeling training --python label_env/bin/python > benchmarks/results/labeling_training.md
    python -m benchmarks.labeling requests --python label_env/bin/python > benchmarks/results/labeling_requests.md

``training``: seconds from the request for a training to its first epoch, and what they are spent on. ``requests``:
seconds of each kind of request while all images are labeled, filtered, marked, and read by a second person.

The images are synthetic lesions, saved as JPEG. ``--python`` is the Python of an environment with the extra ``label``.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import requests
from PIL import Image

from monai_fgssl.data import make_synthetic_lesions, read_isic2018

from .timing import command, processor

REPOSITORY = Path(__file__).parents[1]
EPOCHS = 2
POLL = 0.05
"""Seconds between two questions about the state of a training."""

SECONDS_TO_START = 300.0


class Server:
    """A server of MONAI Label with the app of this package, and requests to it.

    Args:
        python: the Python that runs the server.
        folder: folder for the log and for what the server writes beside its app.
        studies: folder of the images.
        settings: settings of the app, for ``--conf``.
    """

    def __init__(self, python: Path, folder: Path, studies: Path, settings: dict[str, Any]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._session = requests.Session()
        # A proxy of the environment must not be asked for the loopback.
        self._session.trust_env = False
        app = folder / "app"
        shutil.copytree(REPOSITORY / "monai_fgssl" / "label" / "app", app)
        arguments = [python, "-m", "monailabel.main", "start_server", "--app", app, "--studies", studies]
        arguments += ["--host", "127.0.0.1", "--port", str(port)]
        for name, value in settings.items():
            arguments += ["--conf", name, str(value)]
        self.log = folder / "server.log"
        with open(self.log, "wb") as log:
            self.process = psutil.Popen(arguments, stdout=log, stderr=subprocess.STDOUT, cwd=folder)

    def wait(self) -> None:
        """Wait for the first answer.

        Raises:
            SystemExit: when the server ends, or does not answer.
        """
        end = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self._session.get(f"{self.url}/fgssl/info", timeout=60).raise_for_status()
                return
            except requests.ConnectionError:
                time.sleep(0.2)
        raise SystemExit(f"the server does not answer:\n{self.log.read_text(errors='replace')[-4000:]}")

    def ask(self, name: str, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request, and remember under a name the seconds until its answer was complete.

        Raises:
            HTTPError: when the answer is an error.
        """
        start = time.perf_counter()
        answer = self._session.request(method, self.url + path, timeout=600, **options)
        self.seconds[name].append(time.perf_counter() - start)
        answer.raise_for_status()
        return answer

    def label(self, image: str, class_name: str) -> None:
        """Give an image a class, as the page does."""
        sent = {"label": ("label.json", b""), "params": (None, f'{{"class": "{class_name}"}}')}
        self.ask("save a label", "PUT", f"/datastore/label?image={image}&tag=final", files=sent)

    def stop(self) -> None:
        """End the server and its processes."""
        for process in (*self.process.children(recursive=True), self.process):
            process.terminate()
        self.process.wait(60)


@contextmanager
def started(arguments: argparse.Namespace) -> Iterator[tuple[Server, dict[str, str], float]]:
    """Start a server on synthetic images; give it with the class of each image and the seconds of its start."""
    with tempfile.TemporaryDirectory(prefix="labeling-") as name:
        folder = Path(name)
        classes = write_images(folder, arguments.images, arguments.size)
        settings = {"classes": ",".join(sorted(set(classes.values()))), "image_size": arguments.image_size}
        start = time.perf_counter()
        server = Server(arguments.python, folder, folder / "studies", {**settings, "max_epochs": EPOCHS})
        try:
            server.wait()
            yield server, classes, time.perf_counter() - start
        finally:
            server.stop()


def write_images(folder: Path, count: int, size: int) -> dict[str, str]:
    """Write synthetic lesions as JPEG into the folder ``studies``; return the class of each image."""
    table = read_isic2018(make_synthetic_lesions(folder / "lesions", num_images=count, image_size=size))
    studies = folder / "studies"
    studies.mkdir()
    for item in table.items:
        with Image.open(item["image"]) as picture:
            picture.convert("RGB").save(studies / f"{item['name']}.jpg", quality=92)
    return {item["name"]: table.class_names[item["label"]] for item in table.items}


# ---------------------------------------------------------------- the start of a training


def measure_training(arguments: argparse.Namespace) -> None:
    """Print when a training showed each of its lines."""
    with started(arguments) as (server, classes, seconds):
        print(f"the server answers after {seconds:.1f} s", file=sys.stderr)
        for image, class_name in classes.items():
            server.label(image, class_name)
        runs = [watch_training(server) for _ in range(arguments.repeats)]
    print(heading("Seconds before a training's first epoch"))
    print(f"{len(classes)} images of {arguments.size} px, {arguments.image_size} px in training.\n")
    first = [next(when for when, line in run if "fine-tune" in line) for run in runs]
    print(f"Seconds from the request to the first epoch's line: {', '.join(f'{one:.1f}' for one in first)}.\n")
    for number, run in enumerate(runs, 1):
        print(f"## Training {number}\n\n| s | line |\n| --- | --- |")
        for when, line in run:
            print(f"| {when:.1f} | {line[:110].replace('|', '/')} |")
        print()


def watch_training(server: Server) -> list[tuple[float, str]]:
    """Train, and return each line of the training with the seconds from the request until it was shown."""
    start = time.perf_counter()
    server.ask("train", "POST", "/train/train", json={})
    found: list[tuple[float, str]] = []
    while True:
        state = server.ask("state of the training", "GET", "/train/").json()
        known = {line for _, line in found}
        found += [(time.perf_counter() - start, line) for line in state.get("details", ()) if line not in known]
        if state["status"] not in ("SUBMITTED", "RUNNING"):
            if state["status"] != "DONE":
                raise SystemExit("\n".join(line for _, line in found))
            return found
        time.sleep(POLL)


def heading(title: str) -> str:
    """Return the beginning of a page of results."""
    today = datetime.datetime.now(tz=datetime.timezone.utc).date()
    return f"# {title}\n\n`{command()}`, {today}, {processor()}, load {psutil.getloadavg()[0]:.1f} at the end.\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("training", "requests"))
    parser.add_argument("--python", type=Path, required=True, help="Python of an environment with the extra label")
    parser.add_argument("--images", type=int, help="number of images; by default 60, or 2,000 for requests")
    parser.add_argument("--size", type=int, default=256, help="height and width of the image files in pixels")
    parser.add_argument("--image_size", type=int, default=64, help="height and width in the network in pixels")
    parser.add_argument("--repeats", type=int, default=2, help="number of trainings, one after another")
    given = parser.parse_args(arguments)
    given.python = given.python.absolute()
    given.images = given.images or (60 if given.what == "training" else 2000)
    if given.what == "training":
        measure_training(given)
    else:
        measure_requests(given)


if __name__ == "__main__":
    main()
