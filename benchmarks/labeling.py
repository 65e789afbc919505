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
import re
import shutil
import socket
import subprocess
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
EPOCH = re.compile(r"(random weights|fine-tune|train) 1/")
"""The line of a first epoch."""

POLL = 0.05
"""Seconds between two questions about the state of a training."""

SECONDS_TO_START = 1800.0
SECONDS_OF_A_TOKEN = 60.0


class Server:
    """A server of MONAI Label with the app of this package, and requests to it.

    Args:
        python: the Python that runs the server.
        folder: folder of the app and of the log.
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
        arguments: list[str | Path] = [python, "-m", "monailabel.main", "start_server"]
        arguments += ["--app", folder / "app", "--studies", studies]
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
        shutil.copytree(REPOSITORY / "monai_fgssl" / "label" / "app", folder / "app")
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
    """Print when trainings showed each of their lines."""
    with started(arguments) as (server, classes, _):
        for image, class_name in classes.items():
            server.label(image, class_name)
        runs = [watch_training(server) for _ in range(arguments.repeats)]
    print(heading("Seconds before a training's first epoch"))
    print(f"{len(classes)} images of {arguments.size} px, {arguments.image_size} px in training.\n")
    first = [next(when for when, line in run if EPOCH.search(line)) for run in runs]
    print(f"Seconds from the request to the first epoch's line: {', '.join(f'{one:.1f}' for one in first)}.\n")
    print("Lines of the last training:\n\n| s | line |\n| --- | --- |")
    for when, line in runs[-1]:
        print(f"| {when:.1f} | {line[:110].replace('|', '/')} |")


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
    """Print the seconds of each kind of request, while one person labels all images, and another reads some again."""
    with started(arguments, with_people=True) as (server, classes, seconds):
        start = time.perf_counter()
        server.sign_in("anna")
        signed_in = start
        left = set(classes)
        number = 0
        while left:
            # A token is good for minutes.
            if time.perf_counter() - signed_in > SECONDS_OF_A_TOKEN:
                server.sign_in("anna")
                signed_in = time.perf_counter()
            is_looked_at = number % arguments.every == 0
            if is_looked_at:
                image = server.ask("choose the next image", "POST", "/activelearning/random").json()["id"]
                server.ask("picture", "GET", f"/fgssl/image/{image}")
                server.ask("label and marks of an image", "GET", f"/fgssl/images/{image}")
            else:
                image = min(left)
            server.label(image, classes[image])
            left.remove(image)
            number += 1
        first = time.perf_counter() - start
        # Nothing is left.
        assert server.ask("choose the next image", "POST", "/activelearning/random").json() == {}
        read = list(classes)[:: arguments.every]
        again = dict(zip(read, second_readings(read, classes), strict=True))
        unsure = read[:20]
        server.sign_in("ada")
        signed_in = time.perf_counter()
        for image, class_name in again.items():
            if time.perf_counter() - signed_in > SECONDS_OF_A_TOKEN:
                server.sign_in("ada")
                signed_in = time.perf_counter()
            server.ask("small picture (grid)", "GET", f"/fgssl/images/{image}/thumbnail")
            server.label(image, class_name)
        server.sign_in("ada")
        for image in unsure:
            server.ask("mark as unsure", "PUT", f"/fgssl/images/{image}/marks", json={"unsure": True})
        for _ in range(10):
            listed = server.ask("list of all images (grid)", "GET", "/fgssl/images").json()
            (pair,) = server.ask("agreement of two people", "GET", "/fgssl/agreement").json()
            labeled = server.ask("statistics", "GET", "/fgssl/info").json()["num_labeled"]
            server.ask("course of the trainings", "GET", "/fgssl/trainings")
        memory = server.process.memory_info().rss / 1e6
        check(classes, again, unsure, listed, pair, labeled)
        trained = train_and_audit(server, classes | again) if arguments.train else "No model was trained."
    print(heading(f"{len(classes):,} images on a real server"))
    print(
        f"JPEG files of {arguments.size} x {arguments.size} pixels, one request after another. The server answered\n"
        f"{seconds:.0f} s after its start, and took {memory:.0f} MB at the end. One person labeled all images in\n"
        f"{first:.0f} s, and looked at {len(read):,} of them; another read these again. No request failed. All\n"
        "labels, both readings, the marks, and the images that the two differ on were as they should be.\n"
        f"\n{trained}\n"
    )
    print("| request | number | median, ms | 95 %, ms | largest, ms |\n| --- | --- | --- | --- | --- |")
    for name, found in server.seconds.items():
        ms = sorted(1000 * one for one in found)
        print(f"| {name} | {len(ms)} | {median(ms):.0f} | {ms[int(0.95 * (len(ms) - 1))]:.0f} | {ms[-1]:.0f} |")


def train_and_audit(server: Server, classes: dict[str, str]) -> str:
    """Train on all labels, and say in a paragraph what the page then knows.

    Args:
        server: server on which somebody is signed in who may train.
        classes: class of each image.
    """
    start = time.perf_counter()
    server.ask("train", "POST", "/train/train", json={})
    while True:
        server.sign_in("ada")
        # The page asks this all the time, and people go on labeling.
        server.ask("list of all images while a training runs", "GET", "/fgssl/images")
        state = server.ask("state of the training", "GET", "/train/").json()["status"]
        if state not in ("SUBMITTED", "RUNNING"):
            break
        time.sleep(1)
    seconds = time.perf_counter() - start
    assert state == "DONE", state
    (course,) = server.ask("course of the trainings", "GET", "/fgssl/trainings").json()["trainings"]
    assert course["num_labels"] == len(classes)
    # The server predicts all images in the background, for the grid.
    start = time.perf_counter()
    while True:
        server.sign_in("ada")
        listed = server.ask("list of all images (grid)", "GET", "/fgssl/images").json()
        if all(entry["suggestion"] is not None for entry in listed):
            break
        time.sleep(1)
    predicted = time.perf_counter() - start
    assert {entry["id"]: entry["class"] for entry in listed} == classes
    differing = [entry["id"] for entry in listed if entry["suggestion"] != entry["class"]]
    model = server.ask("statistics", "GET", "/fgssl/info").json()["model"]
    for image in list(classes)[:100]:
        server.ask("suggestion for an image", "POST", f"/infer/{model}?image={image}&output=json", json={})
    accuracy = course["accuracy"]
    return (
        f"Then a training on all {course['num_labels']:,} labels took {seconds:.0f} s ({EPOCHS} epochs). On "
        f"{course['num_test_images']:,} test images\nits accuracy is {accuracy['value']:.3f} [{accuracy['low']:.3f}, "
        f"{accuracy['high']:.3f}]. All labels stayed as they were. Predictions of all images\nwere there after "
        f"{predicted:.0f} s more, and differ from the label for {len(differing):,} of them."
    )


def second_readings(images: Sequence[str], classes: dict[str, str]) -> list[str]:
    """Return the classes of a second person, who differs on every tenth image."""
    names = sorted(set(classes.values()))
    others = {name: names[(index + 1) % len(names)] for index, name in enumerate(names)}
    return [others[classes[image]] if number % 10 == 0 else classes[image] for number, image in enumerate(images)]


def check(
    classes: dict[str, str],
    again: dict[str, str],
    unsure: Sequence[str],
    listed: Sequence[dict[str, Any]],
    pair: dict[str, Any],
    labeled: int,
) -> None:
    """Compare what the server says with what was sent."""
    differing = {image for image, name in again.items() if name != classes[image]}
    assert labeled == len(listed) == len(classes)
    assert {entry["id"]: entry["readings"]["anna"] for entry in listed} == classes
    assert {entry["id"]: entry["readings"]["ada"] for entry in listed if "ada" in entry["readings"]} == again
    assert {entry["id"]: entry["class"] for entry in listed} == classes | again
    assert {entry["id"] for entry in listed if "unsure" in entry} == set(unsure)
    assert set(pair["differ"]) == differing
    assert pair["agreed"] == len(again) - len(differing)


def heading(title: str) -> str:
    """Return the beginning of a page of results."""
    today = datetime.datetime.now(tz=datetime.timezone.utc).date()
    load = psutil.getloadavg()[2]
    return f"# {title}\n\n`{command()}`, {today}, {processor()}, load {load:.1f} in the last 15 minutes.\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("training", "requests"))
    parser.add_argument("--python", type=Path, required=True, help="Python of an environment with the extra label")
    parser.add_argument("--images", type=int, help="number of images; by default 60, or 2,000 for requests")
    parser.add_argument("--size", type=int, default=256, help="height and width of the image files in pixels")
    parser.add_argument("--image_size", type=int, default=64, help="height and width in the network in pixels")
    parser.add_argument(
        "--every", type=int, default=1, help="look at every so many-th image before it is labeled, and read it again"
    )
    parser.add_argument("--train", action="store_true", help="after the labeling, train on all labels")
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
