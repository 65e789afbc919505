# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Take pictures of the documentation anew: ``FGSSL_LABEL_ENV=label_env python docs/take_screenshots.py [NAME] ...``.

- ``page``: docs/guides/labeling.md. MONAI Label with the app on a folder of synthetic lesions, which are labeled and
  trained on, and on one of synthetic volumes.
- ``viewers``: docs/monai_label.md. Synthetic lesions go into an Orthanc as DICOM, and are looked at in OHIF, which
  MONAI Label serves, and in the viewers of Orthanc.
- ``tracking``: docs/guides/tracking.md. A small run is shown by TensorBoard.

Without names it takes all of them.

FGSSL_LABEL_ENV names an environment with ``monai-fgssl[label]``. Needs ``monai-fgssl[dev]`` and the Debian packages
orthanc orthanc-dicomweb orthanc-webviewer chromium chromium-driver.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from PIL import Image
from pydicom import dcmread
from pydicom.uid import generate_uid
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from monai_fgssl.data import make_synthetic_volumes, read_table
from monai_fgssl.data.synthetic.lesions import TEXTURES, draw_lesion

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "integration"))

from dicom_files import DERMOSCOPY, write_dicom
from orthanc import orthanc_command

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
CLASSES = ("COBBLESTONE", "NETWORK", "STREAKS")
LESIONS_PER_CLASS = 16
PHOTOGRAPH = "1.2.840.10008.5.1.4.1.1.77.1.4"
SETTINGS = {"image_size": 64, "width": 32, "embedding_dim": 32, "max_epochs": 20}
PLUGINS = ("DicomWeb", "WebViewer")
# Of a picture in the documentation, in bytes.
LARGEST = 300_000

session = requests.Session()
# A proxy has nothing to do with the loopback.
session.trust_env = False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def ask(method: str, url: str, **content: Any) -> Any:
    """The answer of a server."""
    answer = session.request(method, url, timeout=120, **content)
    answer.raise_for_status()
    return answer.json() if "json" in answer.headers.get("Content-Type", "") else answer.content


@contextmanager
def running(command: list[Any], folder: Path, url: str, **environment: str) -> Iterator[None]:
    """A server, from its first answer on."""
    with open(folder / "server.log", "ab") as log:
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, "HOME": str(folder), **environment},
        )
    try:
        while True:
            try:
                ask("GET", url)
                break
            except requests.ConnectionError:
                if process.poll() is not None:
                    raise RuntimeError((folder / "server.log").read_text(encoding="utf-8")[-4000:]) from None
                time.sleep(0.3)
        yield
    finally:
        process.terminate()
        process.wait(30)


def label_server(folder: Path, port: int, studies: str | Path, settings: dict[str, Any]) -> list[Any]:
    """Command of MONAI Label with the app, on an archive or a folder."""
    python = Path(os.environ["FGSSL_LABEL_ENV"], "bin", "python")
    # MONAI Label makes folders beside main.py.
    shutil.copytree(ROOT / "monai_fgssl" / "label" / "app", folder / "app", ignore=shutil.ignore_patterns("[!m]*"))
    command = [python, "-m", "monailabel.main", "start_server", "--app", folder / "app", "--host", "127.0.0.1"]
    command += ["--port", port, "--studies", studies]
    for name, value in settings.items():
        command += ["--conf", name, value]
    return command


def send_lesions(folder: Path, archive: str) -> dict[str, tuple[Path, str]]:
    """Draw lesions and send them to the archive: file and class by Series Instance UID."""
    found = {}
    for number in range(LESIONS_PER_CLASS * len(CLASSES)):
        texture = CLASSES[number % len(CLASSES)]
        assert texture in TEXTURES
        path, series = folder / f"{number:02d}.dcm", generate_uid()
        # OHIF knows the one kind and not the other.
        is_photograph = number % 2 == 1
        write_dicom(
            path,
            draw_lesion(texture, image_size=256, lesion=number),
            sop_class=PHOTOGRAPH if is_photograph else DERMOSCOPY,
            Modality="XC" if is_photograph else "DMS",
            SeriesInstanceUID=series,
            PatientName=f"Synthetic^Lesion {number:02d}",
            PatientID=f"SYN{number:02d}",
            PatientSex="O",
            StudyID="1",
            StudyTime="101112",
            StudyDescription="Dermoscopy",
            SeriesDescription="Clinical photograph" if is_photograph else "Dermoscopic photograph",
            SeriesNumber=1,
            InstanceNumber=1,
            AccessionNumber=f"A{number:02d}",
            ReferringPhysicianName="",
        )
        ask("POST", f"{archive}/instances", data=path.read_bytes(), headers={"Content-Type": "application/dicom"})
        found[series] = path, texture
    return found


def draw_lesions(folder: Path) -> dict[str, str]:
    """Draw lesions as PNG files: class by name."""
    folder.mkdir()
    found = {}
    for number in range(LESIONS_PER_CLASS * len(CLASSES)):
        name, texture = f"lesion_{number:02d}", CLASSES[number % len(CLASSES)]
        Image.fromarray(draw_lesion(texture, image_size=512, lesion=number)).save(folder / f"{name}.png")
        found[name] = texture
    return found


def teach(server: str, classes: dict[str, str]) -> None:
    """Label all images but the last few, and train."""
    for name, texture in list(classes.items())[:-6]:
        ask(
            "PUT",
            f"{server}/datastore/label",
            params={"image": name, "tag": "final"},
            data={"params": json.dumps({"class": texture})},
            files={"label": ("label.json", b"")},
        )
    ask("POST", f"{server}/train/train", json={})
    while (status := ask("GET", f"{server}/train/"))["status"] in ("SUBMITTED", "RUNNING"):
        time.sleep(1)
    assert status["status"] == "DONE", status


def send_results(folder: Path, files: list[Path], archive: str) -> None:
    """Predict lesions with the model that MONAI Label has trained, and send reports and heat maps to the archive."""
    bundle = next((folder / "cache").rglob("fgssl/fgssl"))
    images = folder / "to_predict"
    images.mkdir()
    for file in files:
        shutil.copy(file, images)
    config = bundle / "configs" / "inference.json"
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config), "--dataset_dir", str(images)]
    subprocess.run([*command, "--dicom", "true", "--heat_maps", "true"], check=True, stdout=subprocess.DEVNULL)
    for result in sorted((bundle / "output" / "inference" / "dicom").glob("*.dcm")):
        ask("POST", f"{archive}/instances", data=result.read_bytes(), headers={"Content-Type": "application/dicom"})


def find_study(archive: str, file: Path) -> dict[str, Any]:
    """Orthanc's record of the study of an image."""
    query = {"StudyInstanceUID": dcmread(file, stop_before_pixels=True).StudyInstanceUID}
    return ask("POST", f"{archive}/tools/find", json={"Level": "Study", "Query": query, "Expand": True})[0]


def study_uid(study: dict[str, Any]) -> str:
    """Study Instance UID in Orthanc's record."""
    return str(study["MainDicomTags"]["StudyInstanceUID"])


@contextmanager
def browser() -> Iterator[Chrome]:
    """Chromium without a screen."""
    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "lang=en", "enable-unsafe-swiftshader"):
        options.add_argument(f"--{argument}")
    driver = Chrome(options, ChromeService(str(shutil.which("chromedriver"))))
    yield driver
    driver.quit()


def wait(chrome: Chrome, condition: Callable[[], Any], seconds: float = 120) -> None:
    """Wait until something is on the screen."""
    WebDriverWait(chrome, seconds, 0.2, (WebDriverException, IndexError)).until(lambda _: condition())


def screen(chrome: Chrome, width: int, height: int, scheme: str = "light") -> None:
    """Size of the window, light or dark."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def save(chrome: Chrome, name: str) -> None:
    """Save the screen, with as many colors as fit into a small file."""
    # Pictures fade in.
    time.sleep(1)
    picture = Image.open(io.BytesIO(chrome.get_screenshot_as_png())).convert("RGB")
    for colors in (256, 128, 64, 32):
        buffer = io.BytesIO()
        picture.quantize(colors, method=Image.Quantize.MEDIANCUT).save(buffer, "PNG", optimize=True)
        if buffer.tell() < LARGEST:
            break
    (IMAGES / name).write_bytes(buffer.getvalue())
    print(f"{name}: {buffer.tell() / 1000:.0f} KB, {colors} colors", flush=True)


def look_at_page(chrome: Chrome, server: str) -> None:
    """The page for annotators: light, dark with a heat map, all images, narrow."""
    screen(chrome, 1280, 800)
    chrome.get(f"{server}/fgssl/")
    wait(chrome, lambda: " with " in chrome.find_element("id", "suggestion").text)
    save(chrome, "label_page.png")
    screen(chrome, 1280, 800, "dark")
    chrome.find_element("id", "heat").click()
    wait(chrome, lambda: chrome.find_element("id", "heat-layer").is_displayed())
    save(chrome, "label_heat_maps.png")
    chrome.find_element("id", "heat").click()
    screen(chrome, 1280, 800)
    chrome.find_element("id", "to-review").click()
    wait(chrome, lambda: all("blob:" in tile.get_attribute("style") for tile in shown_tiles(chrome)))
    save(chrome, "label_review.png")
    chrome.find_element("id", "to-label").click()
    screen(chrome, 420, 860)
    save(chrome, "label_narrow.png")


def shown_tiles(chrome: Chrome) -> list[WebElement]:
    """Pictures in the grid of all images, of which there is one at least."""
    found = chrome.find_elements("css selector", ".tile .thumbnail")
    found[0]
    return found


def look_at_volume(chrome: Chrome, server: str) -> None:
    """The page with a volume."""
    screen(chrome, 1280, 800)
    chrome.get(f"{server}/fgssl/")
    wait(chrome, lambda: chrome.find_element("id", "viewing").is_displayed())
    save(chrome, "label_volume.png")


def look_at_ohif(chrome: Chrome, server: str, photograph: str, dermoscopy: str) -> None:
    """OHIF with a photograph, with a dermoscopic image, and with its panel for MONAI Label."""
    screen(chrome, 1280, 720)
    chrome.get(f"{server}/ohif/viewer?StudyInstanceUIDs={photograph}")
    hide = "//button[contains(., 'Confirm and Hide')]"
    wait(chrome, lambda: chrome.find_elements("xpath", hide))
    # It covers the lower part of the screen.
    chrome.find_element("xpath", hide).click()
    wait(chrome, lambda: "Clinical photograph" in ohif_text(chrome))
    save(chrome, "viewer_ohif_photograph.png")

    chrome.get(f"{server}/ohif/viewer?StudyInstanceUIDs={dermoscopy}")
    wait(chrome, lambda: "AI heat map" in ohif_text(chrome))
    series = chrome.find_element("xpath", "//*[starts-with(@data-cy,'study-browser-thumbnail')]")
    chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", series)
    save(chrome, "viewer_ohif_dermoscopy.png")

    chrome.get(f"{server}/ohif/monai-label?StudyInstanceUIDs={photograph}")
    wait(chrome, lambda: chrome.find_elements("css selector", "input[value*='127.0.0.1']"))
    address = chrome.find_element("css selector", "input[value*='127.0.0.1']")
    address.send_keys(Keys.CONTROL, "a")
    address.send_keys(f"{server}/")
    address.find_element("xpath", "following::button[1]").click()
    wait(chrome, lambda: chrome.find_elements("xpath", "//*[contains(text(), 'Auto-Segmentation')]"))
    # Until the complaints about the first address are gone.
    time.sleep(10)
    save(chrome, "viewer_ohif_label.png")


def ohif_text(chrome: Chrome) -> str:
    """Text that OHIF writes over the picture."""
    return chrome.execute_script(
        "return [...document.querySelectorAll('[data-cy^=viewport-overlay]')].map((e) => e.innerText).join(' ')"
    )


def look_at_orthanc(chrome: Chrome, archive: str, study: dict[str, Any]) -> None:
    """Orthanc's list of a study, and its web viewer with the image and the heat maps."""
    screen(chrome, 1280, 620)
    chrome.get(f"{archive}/app/explorer.html#study?uuid={study['ID']}")
    wait(chrome, lambda: chrome.find_element("xpath", "//h3[contains(., 'AI result')]").is_displayed())
    save(chrome, "viewer_orthanc_study.png")
    for identifier in study["Series"]:
        modality = ask("GET", f"{archive}/series/{identifier}")["MainDicomTags"]["Modality"]
        if modality != "SR":
            chrome.get(f"{archive}/web-viewer/app/viewer.html?series={identifier}")
            # It draws into a canvas, without a sign of having done so.
            time.sleep(8)
            save(chrome, "viewer_orthanc_image.png" if modality == "DMS" else "viewer_orthanc_heat_maps.png")


def track_a_run(folder: Path) -> None:
    """Train a little, tracked in ``output/tracking``."""
    configs = ROOT / "bundles" / "fgssl" / "configs"
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(configs / "train.json")]
    command += ["--tracking", str(configs / "tensorboard.json"), "--compare", "false", "--label_fraction", "1.0"]
    settings = {"synthetic_images": 420, "image_size": 48, "width": 32, "embedding_dim": 32, "redundancy_weight": 0.1}
    settings |= {"pretrain_epochs": 10, "max_epochs": 5}
    for name, value in settings.items():
        command += [f"--{name}", str(value)]
    command += ["--synthetic_dir", str(folder / "lesions"), "--output_dir", str(folder / "output")]
    subprocess.run([*command, "--model_path", str(folder / "model.pt")], check=True, stdout=subprocess.DEVNULL)


def tensorboard(port: int) -> list[Any]:
    """Command of TensorBoard; it shows the name of its folder, which is no path of this computer."""
    return [sys.executable, "-m", "tensorboard.main", "--logdir", "output/tracking", "--port", port]


def look_at_tensorboard(chrome: Chrome, address: str) -> None:
    """TensorBoard's curves and pictures."""
    screen(chrome, 1280, 800)
    chrome.get(f"{address}/?darkMode=false&smoothing=0&tagFilter=iteration%2Floss_%7Cknn_acc%7Cval_mac#timeseries")
    wait(chrome, lambda: "knn_accuracy" in chrome.find_element("tag name", "body").text)
    # The pane with its settings takes a third of the width.
    chrome.find_element("xpath", "//button[contains(., 'Settings')]").click()
    # Curves are drawn without a sign of having been.
    time.sleep(15)
    save(chrome, "tracking_curves.png")
    chrome.get("about:blank")
    chrome.get(f"{address}/?darkMode=false#images")
    # Its elements are in shadow trees.
    time.sleep(15)
    save(chrome, "tracking_pictures.png")


def page_and_look(folder: Path) -> None:
    """The pictures of docs/guides/labeling.md."""
    classes = draw_lesions(folder / "lesions")
    with label_server_of(folder, folder / "lesions", {"classes": ",".join(CLASSES), **SETTINGS}) as server:
        teach(server, classes)
        with browser() as chrome:
            look_at_page(chrome, server)
    volumes = folder / "volumes"
    volumes.mkdir()
    for item in read_table(make_synthetic_volumes(folder / "data", num_images=24)).items[:6]:
        shutil.copy(item["image"], volumes)
    settings = {"bundle": "fgssl_volume", "classes": "FOAM,LAYERS"}
    with label_server_of(folder, volumes, settings) as server, browser() as chrome:
        look_at_volume(chrome, server)


@contextmanager
def label_server_of(folder: Path, studies: str | Path, settings: dict[str, Any]) -> Iterator[str]:
    """MONAI Label with the app, on an archive or a folder: its address."""
    home, port = Path(tempfile.mkdtemp(dir=folder)), free_port()
    variables = {"MONAI_LABEL_DICOMWEB_CACHE_PATH": str(folder / "cache")}
    server = f"http://127.0.0.1:{port}"
    with running(label_server(home, port, studies, settings), home, f"{server}/fgssl/info", **variables):
        yield server


def viewers_and_look(folder: Path) -> None:
    """The pictures of docs/monai_label.md."""
    archive_port = free_port()
    archive = f"http://127.0.0.1:{archive_port}"
    command = orthanc_command(folder, archive_port, PLUGINS, WebViewer={"CachePath": str(folder / "viewer_cache")})
    settings = {"classes": ",".join(CLASSES), **SETTINGS}
    with running(command, folder, f"{archive}/system"):
        lesions = send_lesions(folder, archive)
        with label_server_of(folder, f"{archive}/dicom-web", settings) as server:
            teach(server, {series: texture for series, (_, texture) in lesions.items()})
            with browser() as chrome:
                # The last two: a dermoscopic image and a photograph.
                files = [file for file, _ in list(lesions.values())[-2:]]
                send_results(folder, files, archive)
                dermoscopy, photograph = (find_study(archive, file) for file in files)
                look_at_ohif(chrome, server, study_uid(photograph), study_uid(dermoscopy))
                look_at_orthanc(chrome, archive, dermoscopy)


def track_and_look(folder: Path) -> None:
    """The pictures of docs/guides/tracking.md."""
    track_a_run(folder)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with running(tensorboard(port), folder, address), browser() as chrome:
        look_at_tensorboard(chrome, address)


TAKES = {"page": page_and_look, "viewers": viewers_and_look, "tracking": track_and_look}

if __name__ == "__main__":
    for take in sys.argv[1:] or TAKES:
        with tempfile.TemporaryDirectory() as name:
            TAKES[take](Path(name))
