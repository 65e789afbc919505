# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""DICOM results are checked by independent programs: dicom3tools, dcmtk, and a real archive."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import examples
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from monai_fgssl.report.dicom.header import ModelDescription
from monai_fgssl.report.dicom.secondary_capture import write_secondary_capture
from monai_fgssl.report.dicom.structured_report import Prediction, write_sr

MODEL = ModelDescription("lesions", "1.2", "Ours", "ab" * 32, ("image_size=224",))
CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
ROWS = np.vstack([np.eye(7)[1] * 0.93 + 0.01, np.random.default_rng(0).dirichlet(np.ones(7), 4)])
PREDICTION = Prediction(CLASSES, ROWS[0], ROWS[1:], {"entropy": 0.25, "stage_disagreement": 0.5})
FINDINGS = Prediction(
    ("Mass", "Edema"), [0.3, 0.6], [[0.2, 0.5], [0.3, 0.6]], {"entropy": 0.5}, unlike_training=False, found=["Mass"],
    thresholds=[0.25, 0.7], undecided=["Edema"],
)  # fmt: skip
PICTURE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)

PACKAGES = {
    "Orthanc": "orthanc",
    "dcentvfy": "dicom3tools",
    "dciodvfy": "dicom3tools",
    "dcm2json": "dcmtk",
    "dsrdump": "dcmtk",
    "img2dcm": "dcmtk",
}

KNOWN_WARNINGS = (
    # A scheme of our own is allowed (PS3.3, section 8.2), and described in the file.
    r"^Warning - .*CodingSchemeDesignator\(0008,0102\)\[1\]> - Unrecognized defined term = <99FGSSL>",
    # Newer than this dicom3tools; IHE AIR asks for it.
    r"^Warning - .*ContributingEquipmentSequence\(0018,a001\)\[\d\]/DeviceUID\(0018,1002\)> - Attribute is not present",
    # Whether a skin lesion is on a paired body part is not known.
    r"^Warning - .*Laterality\(0020,0060\)> - is only permitted to be empty when actually unknown",
    # The next are the source's own.
    r"^Warning - .*Missing attribute or value that would be needed to build DICOMDIR",
    r"^Warning - .*Value dubious for this VR \[PN\] = .* - Retired Person Name form",
    r"^Warning - .*PatientWeight\(0010,1030\)\[1\]> - Value is zero",
    # dcentvfy: its own tables place this number in two modules.
    r"^Warning - Different information entities for attribute - Element=<AccessionNumber>",
    # Retired; highdicom leaves it out.
    r"^Warning - Attribute present in one instance but not the other - Element=<EthnicGroup>",
)


def tool(name: str) -> str:
    """Path of a program. Debian puts servers where only root looks."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if path is None:
        pytest.fail(f"{name} is missing: apt-get install {PACKAGES[name]}")
    return path


def is_known(line: str) -> bool:
    return any(re.search(known, line) for known in KNOWN_WARNINGS)


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool(name), *arguments], capture_output=True, text=True, check=False)


def write_colors(path: Path, sop_class: str, modality: str, **attributes: str) -> None:
    image = Dataset()
    image.update(attributes)
    image.SOPClassUID, image.SOPInstanceUID = sop_class, generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Doe^Jo", "7", "19500101", "O"
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20240229", "101112", "S", "A"
    image.ReferringPhysicianName, image.Modality, image.SeriesNumber, image.InstanceNumber = (
        "Refer^Ring",
        modality,
        1,
        1,
    )
    image.Rows, image.Columns, image.SamplesPerPixel, image.PlanarConfiguration = *PICTURE.shape, 0
    image.PhotometricInterpretation, image.BitsAllocated, image.BitsStored, image.HighBit = "RGB", 8, 8, 7
    image.PixelRepresentation, image.PixelData = 0, PICTURE.tobytes()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.save_as(path, enforce_file_format=True)


def convert_photograph(path: Path, *options: str) -> None:
    """As a clinic without a camera that speaks DICOM makes one: dcmtk fills in what DICOM asks for, and no patient."""
    Image.fromarray(PICTURE).save(path.with_suffix(".jpg"))
    result = run("img2dcm", *options, path.with_suffix(".jpg"), path)
    assert result.returncode == 0, result.stderr


SOURCES = {
    "skin": lambda path: write_colors(path, "1.2.840.10008.5.1.4.1.1.77.1.7", "DMS"),
    "eye": lambda path: write_colors(path, "1.2.840.10008.5.1.4.1.1.77.1.5.1", "OP", ImageLaterality="L"),
    "photograph": lambda path: convert_photograph(path, "-vlp"),
    "capture": convert_photograph,
    "ct": lambda path: shutil.copy(examples.get_path("ct"), path),
    "mr": lambda path: shutil.copy(examples.get_path("mr"), path),
    "palette": lambda path: shutil.copy(examples.get_path("palette_color"), path),
    "frames": lambda path: shutil.copy(examples.get_path("ybr_color"), path),
}


@pytest.fixture(scope="module", params=SOURCES)
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An image, and the report and the heat map about it."""
    folder = tmp_path_factory.mktemp("results")
    paths = {name: folder / f"{name}.dcm" for name in ("source", "report", "findings", "heat")}
    SOURCES[request.param](paths["source"])
    source = pydicom.dcmread(paths["source"], stop_before_pixels=True)
    frame = 1 if request.param == "frames" else None
    write_sr(paths["report"], source, PREDICTION, MODEL, frame)
    write_sr(paths["findings"], source, FINDINGS, MODEL, frame)
    write_secondary_capture(paths["heat"], source, PICTURE, "Grad-CAM of stage 2 for NV", MODEL, frame)
    return paths


@pytest.mark.parametrize("kind", ["report", "findings", "heat"])
def test_dciodvfy_finds_no_error(results: dict[str, Path], kind: str) -> None:
    name = "SCImage" if kind == "heat" else "Comprehensive3DSR"
    lines = [line for line in run("dciodvfy", "-new", results[kind]).stderr.splitlines() if line]
    assert lines.count(name) == 1
    assert [line for line in lines if line != name and not is_known(line)] == []


def test_dciodvfy_would_find_an_error(results: dict[str, Path], tmp_path: Path) -> None:
    report = pydicom.dcmread(results["report"])
    del report.VerificationFlag
    report.save_as(tmp_path / "broken.dcm")
    assert "Error - </VerificationFlag" in run("dciodvfy", "-new", tmp_path / "broken.dcm").stderr


def test_dcentvfy_finds_one_patient_and_one_study(results: dict[str, Path]) -> None:
    assert [line for line in run("dcentvfy", *results.values()).stderr.splitlines() if not is_known(line)] == []


def test_dcentvfy_would_find_another_patient(results: dict[str, Path], tmp_path: Path) -> None:
    report = pydicom.dcmread(results["report"])
    report.PatientSex = "M" if report.PatientSex != "M" else "F"
    report.save_as(tmp_path / "other.dcm")
    assert "PatientSex" in run("dcentvfy", results["source"], tmp_path / "other.dcm").stderr


def test_dsrdump_reads_the_finding(results: dict[str, Path]) -> None:
    result = run("dsrdump", "+Pl", results["report"])
    assert result.returncode == 0
    assert not re.search(r"^[EF]: ", result.stderr, re.MULTILINE)
    assert '<contains CODE:(,,"Finding")=(400096001,SCT,"Melanocytic nevus")>' in result.stdout
    assert '<contains NUM:(,,"Probability")="0.94" (1,UCUM,"no units")>' in result.stdout
    assert "Not for primary diagnosis." in result.stdout
    assert "Verification Flag   : UNVERIFIED" in result.stdout
    assert result.stdout.count('"Measurement Group"') == 5


def test_dsrdump_reads_each_finding(results: dict[str, Path]) -> None:
    result = run("dsrdump", "+Pl", results["findings"])
    assert result.returncode == 0
    assert not re.search(r"^[EF]: ", result.stderr, re.MULTILINE)
    assert result.stdout.count('"Measurement Group"') == 1 + 2 + 2
    assert '<contains CODE:(,,"Mass")=(373066001,SCT,"Yes")>' in result.stdout
    assert '<contains CODE:(,,"Edema")=(373067005,SCT,"No")>' in result.stdout
    assert '<contains CODE:(,,"Finding")=(Mass,99FGSSL,"Mass")>' in result.stdout
    assert result.stdout.count('(,,"The finding may be there or not")=(373066001,SCT,"Yes")') == 1
    assert '<contains CODE:(,,"Finding")=(Edema,99FGSSL,"Edema")>' not in result.stdout
    assert '<contains NUM:(,,"Probability from which the finding is predicted")="0.25" (1,UCUM,"no units")>' in (
        result.stdout
    )


@pytest.mark.parametrize("kind", ["report", "findings", "heat"])
def test_dcm2json_reads_what_pydicom_reads(results: dict[str, Path], kind: str, tmp_path: Path) -> None:
    result = run("dcm2json", results[kind], tmp_path / "out.json")
    assert result.returncode == 0, result.stderr
    read = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    for element in pydicom.dcmread(results[kind], stop_before_pixels=True):
        if element.VR in ("UI", "LO", "CS", "DA", "ST", "LT"):
            values = [str(value) for value in read[f"{element.tag:08X}"].get("Value", [])]
            expected = element.value if element.VM > 1 else [element.value]
            assert values == [str(value) for value in expected if value], element.keyword


class Archive:
    """Orthanc on the loopback interface."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        settings = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomServerEnabled": False,
            "Plugins": [],
        }
        (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
        self.log = folder / "orthanc.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [tool("Orthanc"), str(folder / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT, cwd=folder
            )
        # A proxy of the environment must not be asked for the loopback.
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def wait(self, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self.ask("system")
                return
            except OSError:
                time.sleep(0.1)
        pytest.fail(f"Orthanc does not answer:\n{self.log.read_text(encoding='utf-8', errors='replace')}")

    def ask(self, path: str, data: bytes | None = None) -> Any:
        with self.opener.open(f"http://127.0.0.1:{self.port}/{path}", data, timeout=30) as answer:
            return json.load(answer)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    archive = Archive(tmp_path_factory.mktemp("orthanc"))
    try:
        archive.wait()
        yield archive
    finally:
        archive.stop()


def test_orthanc_files_the_results_with_the_image(results: dict[str, Path], archive: Archive) -> None:
    answers = {name: archive.ask("instances", path.read_bytes()) for name, path in results.items()}
    assert {answer["Status"] for answer in answers.values()} == {"Success"}
    assert len({answer["ParentStudy"] for answer in answers.values()}) == 1
    assert len({answer["ParentPatient"] for answer in answers.values()}) == 1
    assert len({answer["ParentSeries"] for answer in answers.values()}) == len(results)
    study = archive.ask(f"studies/{answers['source']['ParentStudy']}/instances")
    assert {instance["ID"] for instance in study} == {answer["ID"] for answer in answers.values()}

    report = archive.ask(f"instances/{answers['report']['ID']}/simplified-tags")
    evidence = report["CurrentRequestedProcedureEvidenceSequence"][0]["ReferencedSeriesSequence"][0]
    heat = archive.ask(f"instances/{answers['heat']['ID']}/simplified-tags")
    source = archive.ask(f"instances/{answers['source']['ID']}/simplified-tags")
    for reference in (evidence["ReferencedSOPSequence"][0], heat["SourceImageSequence"][0]):
        assert reference["ReferencedSOPInstanceUID"] == source["SOPInstanceUID"]
    for keyword in ("StudyDescription", "StudyDate", "AccessionNumber", "PatientName"):
        assert report.get(keyword, "") == heat.get(keyword, "") == source.get(keyword, "")


def test_orthanc_keeps_the_reports_of_two_runs(results: dict[str, Path], archive: Archive, tmp_path: Path) -> None:
    write_sr(tmp_path / "again.dcm", pydicom.dcmread(results["source"]), PREDICTION, MODEL)
    first, again = (archive.ask("instances", path.read_bytes()) for path in (results["report"], tmp_path / "again.dcm"))
    assert again["Status"] == "Success"
    assert again["ID"] != first["ID"]
    assert again["ParentStudy"] == first["ParentStudy"]
