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
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import requests
from PIL import Image

from monai_fgssl.data import make_synthetic_lesions, read_isic2018

from .timing import command, processor

REPOSITORY = Path(__file__).parents[1]
OPENID_SERVER = REPOSITORY / "tests" / "integration" / "openid_server.py"
PASSWORD = "correct horse"
"""Of all people that this server knows."""

EPOCHS = 2
DRAWN = 100
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
        environment: more environment variables.
    """

    def __init__(
        self, python: Path, folder: Path, studies: Path, settings: dict[str, Any], environment: dict[str, str]
    ) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._session = requests.Session()
        # A proxy of the environment must not be asked for the loopback.
        self._session.trust_env = False
        app = folder / "app"
        shutil.copytree(REPOSITORY / "monai_fgssl" / "label" / "app", app)
        arguments: list[str | Path] = [
            python,
            "-m",
            "monailabel.main",
            "start_server",
            "--app",
            app,
            "--studies",
            studies,
        ]
        arguments += ["--host", "127.0.0.1", "--port", str(port)]
        for name, value in settings.items():
            arguments += ["--conf", name, str(value)]
        self.log = folder / "server.log"
        with open(self.log, "wb") as log:
            self.process = psutil.Popen(
                arguments, stdout=log, stderr=subprocess.STDOUT, cwd=folder, env={**os.environ, **environment}
            )

    def wait(self) -> None:
        """Wait for the first answer.

        Raises:
            SystemExit: when the server ends, or does not answer.
        """
        end = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self._session.get(f"{self.url}/fgssl/page/main.js", timeout=60).raise_for_status()
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

    def sign_in(self, user: str) -> None:
        """Sign in as one of the people of the tests' OpenID server."""
        answer = self.ask("sign in", "POST", "/auth/token", data={"username": user, "password": PASSWORD})
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def label(self, image: str, class_name: str) -> None:
        """Give an image a class, as the page does."""
        sent = {"label": ("label.json", b""), "params": (None, f'{{"class": "{class_name}"}}')}
        self.ask("save a label", "PUT", f"/datastore/label?image={image}&tag=final", files=sent)

    def stop(self) -> None:
        """End the server and its processes."""
        for process in (*self.process.children(recursive=True), self.process):
            process.terminate()
        self.process.wait(60)


def free_port() -> int:
    """Return a port that no program listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def people(python: Path, folder: Path) -> Iterator[dict[str, str]]:
    """Start the tests' OpenID server; give the variables that lead MONAI Label to it."""
    port = free_port()
    with open(folder / "people.log", "wb") as log:
        process = subprocess.Popen([python, OPENID_SERVER, str(port)], stdout=log, stderr=subprocess.STDOUT)
    try:
        yield {
            "MONAI_LABEL_AUTH_ENABLE": "true",
            "MONAI_LABEL_AUTH_REALM_URI": f"http://127.0.0.1:{port}/realms/lesions",
            "NO_PROXY": "127.0.0.1",
        }
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def started(arguments: argparse.Namespace, with_people: bool = False) -> Iterator[tuple[Server, dict[str, str], float]]:
    """Start a server on synthetic images; give it with the class of each image and the seconds of its start."""
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="labeling-", ignore_cleanup_errors=True)))
        classes = write_images(folder, arguments.images, arguments.size)
        settings = {"classes": ",".join(sorted(set(classes.values()))), "image_size": arguments.image_size}
        environment = opened.enter_context(people(arguments.python, folder)) if with_people else {}
        start = time.perf_counter()
        server = Server(arguments.python, folder, folder / "studies", {**settings, "max_epochs": EPOCHS}, environment)
        opened.callback(server.stop)
        server.wait()
        yield server, classes, time.perf_counter() - start


def write_images(folder: Path, count: int, size: int) -> dict[str, str]:
    """Write synthetic lesions as JPEG into the folder ``studies``; return the class of each image.

    At most :data:`DRAWN` lesions are drawn. More images show them turned.
    """
    table = read_isic2018(make_synthetic_lesions(folder / "lesions", num_images=min(count, DRAWN), image_size=size))
    studies = folder / "studies"
    studies.mkdir()
    classes = {}
    for number in range(count):
        turns, which = divmod(number, len(table.items))
        item = table.items[which]
        name = f"{item['name']}_{turns}"
        with Image.open(item["image"]) as picture:
            turned = picture.convert("RGB").rotate(17 * turns, Image.Resampling.BILINEAR)
            turned.save(studies / f"{name}.jpg", quality=92)
        classes[name] = table.class_names[item["label"]]
    return classes


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


# ---------------------------------------------------------------- labeling all images


def measure_requests(arguments: argparse.Namespace) -> None:
    """Print the seconds of each kind of request, while two people read all images."""
    with started(arguments, with_people=True) as (server, classes, seconds):
        names = sorted(set(classes.values()))
        start = time.perf_counter()
        for number in range(len(classes)):
            # A token is good for minutes.
            if number % 100 == 0:
                server.sign_in("anna")
            image = server.ask("choose the next image", "POST", "/activelearning/random").json()["id"]
            picture = server.ask("picture", "GET", f"/fgssl/image/{image}")
            server.ask("label and marks of an image", "GET", f"/fgssl/images/{image}")
            assert picture.headers["Content-Type"] == "image/png"
            if number % 20 == 0:
                server.ask("mark as unsure", "PUT", f"/fgssl/images/{image}/marks", json={"unsure": True})
            server.label(image, classes[image])
            if number % 50 == 0:
                server.ask("statistics", "GET", "/fgssl/info")
        first = time.perf_counter() - start
        # Nothing is left.
        assert server.ask("choose the next image", "POST", "/activelearning/random").json() == {}
        for number, image in enumerate(classes):
            if number % 100 == 0:
                server.sign_in("ada")
                server.ask("list of all images (grid)", "GET", "/fgssl/images")
            server.ask("small picture (grid)", "GET", f"/fgssl/images/{image}/thumbnail")
            # Another class for every tenth image.
            other = names[(names.index(classes[image]) + 1) % len(names)]
            server.label(image, other if number % 10 == 0 else classes[image])
        for _ in range(10):
            server.ask("agreement of two people", "GET", "/fgssl/agreement")
            server.ask("statistics", "GET", "/fgssl/info")
            server.ask("course of the trainings", "GET", "/fgssl/trainings")
        listed = server.ask("list of all images (grid)", "GET", "/fgssl/images").json()
        (pair,) = server.ask("agreement of two people", "GET", "/fgssl/agreement").json()
        labeled = server.ask("statistics", "GET", "/fgssl/info").json()["num_labeled"]
        memory = server.process.memory_info().rss / 1e6
        check(classes, listed, pair, labeled)
    print(heading(f"{len(classes):,} images on a real server"))
    print(
        f"JPEG files of {arguments.size} x {arguments.size} pixels, two people, one request after another.\n"
        f"The server answered {seconds:.0f} s after its start, and took {memory:.0f} MB at the end. The first person\n"
        f"labeled all images in {first:.0f} s. No request failed. All labels, both readings of each image, and the\n"
        "images that the two differ on were as they should be. No model was trained, so there were no suggestions.\n"
    )
    print("| request | number | median, ms | 95 %, ms | largest, ms |\n| --- | --- | --- | --- | --- |")
    for name, found in server.seconds.items():
        ms = sorted(1000 * one for one in found)
        print(f"| {name} | {len(ms)} | {median(ms):.0f} | {ms[int(0.95 * (len(ms) - 1))]:.0f} | {ms[-1]:.0f} |")


def check(classes: dict[str, str], listed: list[dict[str, Any]], pair: dict[str, Any], labeled: int) -> None:
    """Compare what the server says with what was sent."""
    differing = {image for number, image in enumerate(classes) if number % 10 == 0}
    assert labeled == len(listed) == len(classes)
    assert {entry["id"]: entry["readings"]["anna"] for entry in listed} == classes
    assert {entry["id"] for entry in listed if entry["readings"]["ada"] != classes[entry["id"]]} == differing
    assert sum("unsure" in entry for entry in listed) == -(-len(classes) // 20)
    assert set(pair["differ"]) == differing
    assert pair["agreed"] == len(classes) - len(differing)


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
