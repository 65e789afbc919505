# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Attacks on the MONAI Label app that once worked, against real servers, a real archive and a real browser."""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import socket
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pydicom
import pytest
import torch
from archive_gateway import Gateway
from dicom_files import write_dicom
from pydicom.uid import generate_uid
from selenium.webdriver import Chrome
from test_label_server import (
    CLASSES,
    PHOTOGRAPH,
    SETTINGS,
    Answer,
    Archive,
    Client,
    Server,
    copy_images,
    free_port,
    label_reports,
    wait_until,
)
from test_label_sign_in import sign_in, started_users

from monai_fgssl.bundle import copy_bundle, save_model
from monai_fgssl.networks import HierarchicalNet

# A page that does what it can with a server: the outcome of each attempt, once all have ended.
FOREIGN_PAGE = """<!doctype html><title>elsewhere</title><script>
async function attempt(server, image) {
  const outcome = {};
  const ask = async (name, path, options) => {
    try { outcome[name] = (await fetch(server + path, options)).type; } catch (error) { outcome[name] = "failed"; }
  };
  const form = new FormData();
  form.append("params", JSON.stringify({class: "NETWORK"}));
  form.append("label", new Blob([]), "l.json");
  await ask("list", "/datastore/?output=all", {credentials: "include"});
  await ask("label", `/datastore/label?image=${image}&tag=final`, {method: "PUT", body: form});
  await ask("delete", `/datastore/image?id=${image}`, {method: "DELETE"});
  await ask("train", "/train/pretrain", {method: "POST", mode: "no-cors", body: "{}"});
  await ask("reload", "/reload", {method: "POST", mode: "no-cors"});
  outcome.picture = await new Promise(done => {
    const picture = new Image();
    picture.onload = () => done("seen");
    picture.onerror = () => done("failed");
    picture.src = `${server}/fgssl/image/${image}`;
  });
  return outcome;
}
</script>"""


def raw(
    server: Server, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """An answer to exactly this path and these headers, which other clients tidy up."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    connection.putrequest(method, path, skip_host="Host" in (headers or {}), skip_accept_encoding=True)
    for name, value in {**(headers or {}), "Content-Length": str(len(body or b""))}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


@dataclass
class Site:
    """A server on a folder, the images, and the port of the one website that it lets in."""

    server: Server
    images: list[str]
    friend: int
    folder: Path

    def files(self) -> dict[str, int]:
        """All files that the server could have made, and their sizes, but for its logs and what it keeps of scores."""
        found = (path for path in self.folder.rglob("*") if path.is_file() and path.suffix not in (".log", ".lock"))
        return {str(path.relative_to(self.folder)): path.stat().st_size for path in found if path.name != "scores.pt"}


@pytest.fixture(scope="module")
def site(
    label_python: Path,
    lesions: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("security")
    studies, images = copy_images(lesions, folder, 4)
    # A model with random weights.
    root = copy_bundle("fgssl", studies / "fgssl" / "fgssl")
    torch.manual_seed(0)
    network = HierarchicalNet("resnet18", num_classes=2, width=8, embedding_dim=8).eval()
    save_model(network, root / "models" / "model.pt", CLASSES, 32)
    friend = free_port()
    conf = {
        "classes": ",".join(CLASSES),
        **SETTINGS,
        "hosts": "label.example",
        "origins": f"http://127.0.0.1:{friend}",
        "max_upload_mb": "64",
    }
    # What requests leave behind is seen in folders of the server's own; its home is beside them.
    (folder / "tmp").mkdir()
    server = Server(label_python, folder, str(studies), {"TMPDIR": str(folder / "tmp")}, conf)
    yield Site(server, images, friend, folder)
    server.stop()


def test_a_name_that_somebody_else_owns_is_not_answered(site: Site) -> None:
    """DNS rebinding: the browser takes the server for a part of the foreign page's own site."""
    for path in ("/fgssl/", "/fgssl/info", "/datastore/?output=all", "/", "/openapi.json", "/static/", "/nothing"):
        for method in ("GET", "PUT", "DELETE", "OPTIONS"):
            assert raw(site.server, method, path, {"Host": f"evil.example:{site.server.port}"})[0] == 421, (
                method,
                path,
            )
    for host in ("label.example", "localhost:1", "127.0.0.1", "[::1]:8000"):
        assert raw(site.server, "GET", "/fgssl/info", {"Host": host})[0] == 200, host


def test_what_other_websites_ask_for_is_not_done(site: Site) -> None:
    image = site.images[0]
    before = site.server.ask("GET", "/datastore/?output=all")
    requests = [
        ("GET", "/datastore/?output=all"),
        ("GET", f"/fgssl/image/{image}"),
        ("GET", "/fgssl/page/main.js"),
        ("PUT", f"/datastore/label?image={image}&tag=final"),
        ("DELETE", f"/datastore/image?id={image}"),
        ("POST", "/train/pretrain"),
        ("PUT", "/model/fgssl"),
        ("OPTIONS", "/train/pretrain"),
    ]
    for origin in ("https://evil.example", "null", f"http://localhost:{site.server.port}"):
        for method, path in requests:
            status, headers, content = raw(site.server, method, path, {"Origin": origin}, b"{}")
            assert status == 403, (origin, method, path)
            assert "may not use this server" in json.loads(content)["detail"]
            assert "Access-Control-Allow-Origin" not in headers
    assert site.server.ask("GET", "/datastore/?output=all") == before
    status, headers, _ = raw(site.server, "GET", "/fgssl/info", {"Origin": f"http://127.0.0.1:{site.friend}"})
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, f"http://127.0.0.1:{site.friend}")
    own = {"Origin": f"http://127.0.0.1:{site.server.port}", "Sec-Fetch-Site": "same-origin"}
    status, headers, _ = raw(site.server, "GET", "/fgssl/info", own)
    assert status == 200
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'self'"


def test_a_server_that_a_network_reaches_without_sign_in_warns(
    label_python: Path, lesions: Path, tmp_path: Path, site: Site
) -> None:
    warning = "nobody has to sign in"
    assert warning not in site.server.log.read_text(encoding="utf-8")
    studies, _ = copy_images(lesions, tmp_path, 1)
    server = Server(label_python, tmp_path, str(studies), {}, host="0.0.0.0")
    server.stop()
    assert server.log.read_text(encoding="utf-8").count(warning) == 1


def serve_page(port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = FOREIGN_PAGE.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    website = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=website.serve_forever, daemon=True).start()
    return website


def outcomes(chrome: Chrome, address: str, site: Site, image: str) -> dict[str, Any]:
    chrome.get(address)
    chrome.set_script_timeout(60)
    script = "attempt(arguments[0], arguments[1]).then(arguments[2])"
    return dict(chrome.execute_async_script(script, site.server.url, image))


def test_a_browser_on_another_website(site: Site, chrome: Chrome) -> None:
    image = site.images[0]
    website, friend = serve_page(0), serve_page(site.friend)
    try:
        for host in ("127.0.0.1", "localhost"):
            found = outcomes(chrome, f"http://{host}:{website.server_port}/", site, image)
            assert found == dict.fromkeys(("list", "label", "delete", "train", "reload", "picture"), "failed")
        info = site.server.ask("GET", "/fgssl/info")
        assert (info["num_images"], info["num_labeled"]) == (len(site.images), 0)
        assert raw(site.server, "GET", "/train/")[0] == 404
        log = site.server.log.read_text(encoding="utf-8")
        assert "refused POST /train/pretrain" in log
        # The website that was named may do all that its own page may.
        chrome.get(f"http://127.0.0.1:{site.friend}/")
        script = "fetch(arguments[0], {method: 'DELETE'}).then(answer => answer.text()).then(arguments[1])"
        answer = chrome.execute_async_script(script, f"{site.server.url}/fgssl/label/{image}")
        assert json.loads(answer) == {"detail": "this image has no such label."}
    finally:
        website.shutdown()
        friend.shutdown()


class Exploit:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_what_is_no_model_replaces_none(site: Site, tmp_path: Path) -> None:
    image, client = site.images[0], site.server
    model = client.ask("GET", "/model/fgssl")
    before = client.infer(image)["prediction"]
    other = io.BytesIO()
    torch.save(HierarchicalNet("resnet18", num_classes=3, width=8, embedding_dim=8).state_dict(), other)
    code = io.BytesIO()
    torch.save({"x": Exploit(f"touch {tmp_path}/ran")}, code)
    files = site.files()
    for content in (b"", b"anything", model[:-1000], other.getvalue(), code.getvalue()):
        with pytest.raises(Answer, match="422") as refusal:
            client.form("PUT", "/model/fgssl", {"file": ("model.pt", content)})
        assert refusal.value.detail.startswith("the model was not replaced: model.pt ")
    for method in ("PUT", "DELETE"):
        for name in ("..%2Fother", "other"):
            with pytest.raises(Answer, match="404"):
                client.form(method, f"/model/{name}", {"file": ("model.pt", b"x")})
    assert site.files() == files
    assert not (tmp_path / "ran").exists()
    assert client.infer(image)["prediction"] == before
    assert client.ask("GET", "/fgssl/info")["notices"] == []

    torch.manual_seed(1)
    better = io.BytesIO()
    torch.save(HierarchicalNet("resnet18", num_classes=2, width=8, embedding_dim=8).state_dict(), better)
    client.form("PUT", "/model/fgssl", {"file": ("model.pt", better.getvalue())})
    assert client.infer(image)["prediction"] != before
    client.form("PUT", "/model/fgssl", {"file": ("model.pt", model)})
    assert client.infer(image)["prediction"] == before


def test_an_upload_that_breaks_off_leaves_the_model(site: Site) -> None:
    """The connection ends in the middle of the file, and the server still has the model byte for byte."""
    image, client = site.images[0], site.server
    models = site.folder / "studies" / "fgssl" / "fgssl" / "models"
    before = {file.name: file.read_bytes() for file in models.iterdir()}
    prediction, files = client.infer(image)["prediction"], site.files()
    content = client.ask("GET", "/model/fgssl")
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="model.pt"\r\n\r\n'
    sent = head + content
    for length in (len(head) + 1, len(head) + len(content) // 2, len(sent) - 1):
        with socket.create_connection(("127.0.0.1", client.port), timeout=60) as connection:
            lines = (
                "PUT /model/fgssl HTTP/1.1",
                f"Host: 127.0.0.1:{client.port}",
                "Content-Type: multipart/form-data; boundary=x",
                f"Content-Length: {len(sent) + 7}",
            )
            connection.sendall("\r\n".join((*lines, "", "")).encode() + sent[:length])
        assert client.infer(image)["prediction"] == prediction
    wait_until(lambda: site.files() == files)
    assert {file.name: file.read_bytes() for file in models.iterdir()} == before
    assert client.ask("GET", "/model/fgssl") == content


def test_a_model_that_is_damaged_is_told_and_passed_over(site: Site) -> None:
    image, client = site.images[0], site.server
    before = client.infer(image)["prediction"]
    path = site.folder / "studies" / "fgssl" / "fgssl" / "models" / "model.pt"
    content = path.read_bytes()
    try:
        path.write_bytes(b"anything")
        info = client.ask("GET", "/fgssl/info")
        (notice,) = info["notices"]
        assert notice.startswith("The model can't be used: model.pt is damaged")
        assert client.infer(image)["prediction"] == before
        assert client.ask("GET", "/info/")["labels"] == list(CLASSES)
    finally:
        path.write_bytes(content)
    assert client.ask("GET", "/fgssl/info")["notices"] == []


def upload(site: Site, path: str, name: str, content: bytes, **fields: Any) -> int:
    """Status of an upload; the server must be alive after it."""
    field = "files" if path.startswith("/session") else "file"
    try:
        site.server.form("PUT" if not path.startswith("/infer") else "POST", path, {field: (name, content)}, **fields)
    except Answer as answer:
        return answer.status
    return 200


DETACHED = {
    "x.mhd": b"ObjectType = Image\nNDims = 2\nDimSize = 8 8\nElementType = MET_UCHAR\nElementDataFile = %s\n",
    "x.mha": b"ObjectType = Image\nNDims = 2\nDimSize = 8 8\nElementType = MET_UCHAR\nElementDataFile = %s\n",
    "x.nrrd": b"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 8 8\nencoding: raw\ndata file: %s\n\n",
}


@pytest.mark.parametrize("path", ["/datastore/image", "/datastore/", "/session/", "/infer/fgssl"])
def test_refused_uploads_leave_nothing(path: str, site: Site) -> None:
    files = site.files()
    picture = (site.folder / "studies" / f"{site.images[0]}.png").read_bytes()
    for name, header in DETACHED.items():
        for target in (b"/etc/passwd", b"datastore_v2.json", b"LIST\n/etc/passwd"):
            assert upload(site, path, name, header % target) == 422, (name, target)
    assert upload(site, path, "x.png", b"") == 422
    assert upload(site, path, "x.png", picture + bytes(65_000_000)) == 413
    if path.startswith("/datastore"):
        for name in ("../x.png", "..", "a/b", "/tmp/x", "a\\b", "x%00"):
            assert upload(site, f"{path}?image={quote(name, safe='%')}", "x.png", picture) == 422, name
        assert upload(site, path, "x.exe", picture) == 422
        assert upload(site, path, "..\\x.png", picture) == 422
        assert upload(site, path, "x.png", picture, params=[1]) == 422
    if path.startswith("/session"):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as content:
            content.writestr("../../escaped.png", picture)
        assert upload(site, f"{path}?uncompress=true", "x.zip", archive.getvalue()) == 422
    if path.startswith("/infer"):
        assert upload(site, path, "x.png", b"no picture") == 422
        assert upload(site, "/infer/other", "x.png", picture) == 404
        assert upload(site, path, "x.png", picture, params="no") == 422
    assert site.files() == files
    assert site.server.ask("GET", "/fgssl/info")["num_images"] == len(site.images)


def test_a_limit_counts_what_comes(site: Site) -> None:
    """Also without a length that is told before."""

    def parts() -> Iterator[bytes]:
        for _ in range(700):
            yield bytes(100_000)

    files = site.files()
    for path in ("/datastore/image", "/infer/fgssl", "/model/fgssl"):
        connection = http.client.HTTPConnection("127.0.0.1", site.server.port, timeout=60)
        kind = {"Content-Type": "multipart/form-data; boundary=x", "Transfer-Encoding": "chunked"}
        method = "POST" if path.startswith("/infer") else "PUT"
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="x.png"\r\n\r\n'
        connection.request(method, path, chain([head], parts()), kind, encode_chunked=True)
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["detail"][:28]) == (413, "a request may send 64 MB; to")
        connection.close()
    assert site.files() == files


def test_sent_names_are_not_used(site: Site) -> None:
    """MONAI Label 0.8.5 takes paths from names of files and from ids of sessions."""
    client = site.server
    picture = (site.folder / "studies" / f"{site.images[0]}.png").read_bytes()
    made = client.form("PUT", "/session/", {"files": ("../../../../escaped.png", picture)})
    session = made["session_id"]
    assert Path(made["session_info"]["image"]).parent.name == session
    assert not list(site.folder.parent.rglob("escaped*"))
    sent = client.form("POST", "/infer/fgssl", {"file": ("/etc/../x/y.png", picture)})
    assert sent["prediction"] == client.infer(site.images[0])["prediction"]
    assert client.form("POST", f"/infer/fgssl?session_id={session}", {})["prediction"] == sent["prediction"]
    assert client.ask("GET", f"/session/{session}?image=true") == picture
    # A folder with a file meta.info was a session, and could be removed or lead to any file.
    trap = site.folder / "trap"
    trap.mkdir()
    for image in ("/etc/passwd", "/nothing"):
        (trap / "meta.info").write_text(json.dumps({"image": image, "path": "/"}), encoding="utf-8")
        up = "..%2F" * 12 + str(trap).lstrip("/").replace("/", "%2F")
        for name in (up, quote(str(trap), safe=""), f"{session}%2F..%2F{up}", "..", "%2e%2e", f"{session}%00"):
            for method in ("GET", "DELETE"):
                assert raw(client, method, f"/session/{name}")[0] == 404, (method, name)
            assert raw(client, "POST", f"/infer/fgssl?session_id={name}")[0] == 404, name
        assert (trap / "meta.info").is_file()
    assert client.ask("DELETE", f"/session/{session}")["name"] == session
    assert raw(client, "GET", f"/session/{session}")[0] == 404


def test_an_image_that_is_sent_again_keeps_its_label(site: Site) -> None:
    client = site.server
    pictures = [(site.folder / "studies" / f"{name}.png").read_bytes() for name in site.images[:2]]
    assert client.form("PUT", "/datastore/image", {"file": ("new.png", pictures[0])}) == {"image": "new"}
    client.label("new", "NETWORK")
    assert upload(site, "/datastore/image", "new.png", pictures[0]) == 200
    assert upload(site, "/datastore/image?image=new", "other.png", pictures[1]) == 409
    assert client.ask("GET", "/fgssl/label/new") == {"class": "NETWORK"}
    assert client.ask("GET", "/datastore/image?image=new") == pictures[0]
    with zipfile.ZipFile(io.BytesIO(client.ask("GET", "/datastore/dataset"))) as dataset:
        assert dataset.read("image/new.png") == pictures[0]
        assert json.loads(dataset.read("label/new.json"))["class"] == "NETWORK"
    # It goes after the last byte, which this client does not wait for.
    wait_until(lambda: not list((site.folder / "tmp").glob("fgssl-*")), 10)
    client.ask("DELETE", "/datastore/image?id=new")
    assert client.ask("GET", "/fgssl/info")["num_images"] == len(site.images)
    with pytest.raises(Answer, match="404"):
        client.ask("GET", "/datastore/dataset")


def test_a_machine_without_graphics_card_is_no_error(site: Site) -> None:
    # Of the device or of its absence, and never of the server.
    status, headers, content = raw(site.server, "GET", "/logs/gpu")
    if shutil.which("nvidia-smi"):
        assert (status, headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    else:
        assert (status, json.loads(content)["detail"][:33]) == (404, "this machine has no nvidia-smi, o")


@dataclass
class ArchiveSite:
    """A server with users on an archive, and what it sends there."""

    server: Server
    archive: Archive
    gateway: Gateway
    instances: list[pydicom.Dataset]

    def headers(self, user: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {sign_in(self.server, user)}", "Content-Type": "application/dicom+json"}


@pytest.fixture(scope="module")
def archive_site(
    label_python: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ArchiveSite]:
    folder = tmp_path_factory.mktemp("archive")
    archive = Archive(folder)
    gateway = Gateway(archive.url)
    server = None
    try:
        instances = []
        for number in range(2):
            pixels = np.zeros((8, 8, 3), np.uint8)
            file = write_dicom(
                folder / f"{number}.dcm", pixels, sop_class=PHOTOGRAPH, Modality="XC", PatientID=f"P{number}"
            )
            archive.ask("POST", "/instances", file.read_bytes(), "application/dicom")
            instances.append(pydicom.dcmread(file))
        with started_users(label_python, folder) as (_, _, environment):
            environment["MONAI_LABEL_DICOMWEB_CACHE_PATH"] = str(folder / "cache")
            server = Server(label_python, folder, f"{gateway.url}/dicom-web", environment)
            yield ArchiveSite(server, archive, gateway, instances)
            server.stop()
    finally:
        gateway.close()
        archive.process.terminate()
        archive.process.wait(30)


def test_a_viewer_sees_the_archive(archive_site: ArchiveSite) -> None:
    site = archive_site
    first = site.instances[0]
    below = f"studies/{first.StudyInstanceUID}/series/{first.SeriesInstanceUID}"
    headers = site.headers("uma")
    for service in ("", "qido/", "wado/"):
        status, _, content = raw(site.server, "GET", f"/proxy/dicom/{service}{below}/instances", headers)
        (found,) = json.loads(content)
        assert (status, found["00080018"]["Value"]) == (200, [first.SOPInstanceUID])
    # MONAI Label loses the query, and shows every patient's studies.
    _, _, content = raw(site.server, "GET", "/proxy/dicom/qido/studies?PatientID=P1", headers)
    (found,) = json.loads(content)
    assert found["0020000D"]["Value"] == [site.instances[1].StudyInstanceUID]
    accept = {**headers, "Accept": 'multipart/related; type="application/octet-stream"'}
    path = f"/proxy/dicom/wado/{below}/instances/{first.SOPInstanceUID}/frames/1"
    status, kind, content = raw(site.server, "GET", path, accept)
    assert status == 200
    assert kind["Content-Type"].startswith("multipart/related")
    assert first.PixelData in content
    method, path, sent = site.gateway.requests[-1]
    # The archive gets no person's token.
    assert (method, path) == ("GET", f"/dicom-web/{below}/instances/{first.SOPInstanceUID}/frames/1")
    assert {name.lower() for name in sent} <= {
        "host",
        "accept",
        "accept-encoding",
        "content-type",
        "connection",
        "user-agent",
    }


@pytest.mark.parametrize("user", ["uma", "ada"])
def test_no_path_leads_out_of_the_archives_dicomweb(archive_site: ArchiveSite, user: str) -> None:
    site = archive_site
    headers = site.headers(user)
    up = (
        "..",
        "%2e%2e",
        ".%2E",
        "%252e%252e",
        "..;",
        "%2e%2e%2f..",
        "studies/..",
        "studies/../..",
        "studies/.%2e/%2e.",
    )
    paths = [
        f"{service}{dots}/{rest}"
        for service in ("", "wado/", "qido/", "stow/")
        for dots in up
        for rest in ("patients", "tools/shutdown", "system", "dicom-web/studies")
    ]
    paths += [
        "servers",
        "info",
        "wado",
        "",
        "/",
        "//",
        "/patients",
        "studies//",
        "studies/1%3F..%2F",
        "studies%5C..%5C",
        "studies/1%23",
        "studies/%00",
        "studies/1%0d%0aX:%20y",
        "http://127.0.0.1:1/",
        "studies/@evil.example",
    ]
    asked = len(site.gateway.requests)
    for path in paths:
        for method in ("GET", "POST"):
            status, _, content = raw(site.server, method, f"/proxy/dicom/{path}", headers, b"{}")
            assert 400 <= status < 500, (method, path)
            assert b"Orthanc" not in content
    assert len(site.gateway.requests) == asked
    assert site.archive.ask("GET", "/system")["Version"]


def test_storing_needs_an_annotator(archive_site: ArchiveSite) -> None:
    """Readers must not store: a report in the archive counts as a label, so they could forge one."""
    site = archive_site
    new = site.instances[0].copy()
    new.SOPInstanceUID = new.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    file = io.BytesIO()
    new.save_as(file, enforce_file_format=True)
    boundary = "b0undary"
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = head + file.getvalue() + f"\r\n--{boundary}--\r\n".encode()

    def store(user: str, path: str) -> int:
        headers = {**site.headers(user), "Content-Type": kind, "Accept": "application/dicom+json"}
        return raw(site.server, "POST", path, headers, body)[0]

    below = f"studies/{new.StudyInstanceUID}"
    for path in ("studies", "stow/studies", "qido/studies", "wado/studies", below, f"{below}/series"):
        assert store("uma", f"/proxy/dicom/{path}") == 403
        assert raw(site.server, "POST", f"/proxy/dicom/{path}", {"Content-Type": kind}, body)[0] == 401
    assert len(site.archive.ask("GET", "/instances")) == 2
    for method in ("PUT", "DELETE", "PATCH"):
        assert raw(site.server, method, f"/proxy/dicom/{below}", site.headers("ada"))[0] == 405
    assert store("anna", "/proxy/dicom/stow/studies") == 200
    assert len(site.archive.ask("GET", "/instances")) == 3
    assert store("anna", f"/proxy/dicom/stow/{below}/series/1") == 404


def test_a_label_report_names_who_signed_in(archive_site: ArchiveSite) -> None:
    site = archive_site
    image = str(site.instances[0].SeriesInstanceUID)
    client = Client(site.server.url)
    client.headers = {"Authorization": site.headers("anna")["Authorization"]}
    before = set(label_reports(site.archive))
    client.form(
        "PUT",
        f"/datastore/label?image={image}&tag=final",
        {},
        params={"class": "NETWORK", "user": "ada", "observer": "ada"},
    )
    wait_until(lambda: client.ask("GET", "/fgssl/info")["notices"] == [])
    (name,) = set(label_reports(site.archive)) - before
    report = pydicom.dcmread(io.BytesIO(site.archive.ask("GET", f"/instances/{name}/file")))
    assert [str(element.value) for element in report.iterall() if element.keyword == "PersonName"] == ["anna^"]
    assert client.ask("GET", f"/datastore/label/info?label={image}&tag=final")["user"] == "anna"


def test_an_archive_that_is_away_or_sends_elsewhere(archive_site: ArchiveSite) -> None:
    site = archive_site
    headers = site.headers("uma")
    try:
        site.gateway.mode = "elsewhere"
        assert raw(site.server, "GET", "/proxy/dicom/studies", headers)[0] == 502
        site.gateway.mode = "away"
        status, _, content = raw(site.server, "GET", "/proxy/dicom/studies", headers)
        assert (status, "does not answer" in json.loads(content)["detail"]) == (503, True)
    finally:
        site.gateway.mode = "pass"
    assert raw(site.server, "GET", "/proxy/dicom/studies", headers)[0] == 200


def test_there_is_no_archive_behind_a_folder(site: Site) -> None:
    status, _, content = raw(site.server, "GET", "/proxy/dicom/studies")
    assert (status, json.loads(content)["detail"]) == (404, "the images are in a folder: there is no archive to ask.")
