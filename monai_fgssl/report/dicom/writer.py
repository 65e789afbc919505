# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Results of inference back into the studies that the images came from, while inference goes through them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.engines import Workflow
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys

from monai_fgssl.data.io.dicom_file import is_dicom, open_dicom
from monai_fgssl.data.io.dicom_series import files_of_series
from monai_fgssl.data.store.stream import ImageStream
from monai_fgssl.report.dicom.header import ModelDescription, import_highdicom
from monai_fgssl.report.dicom.secondary_capture import write_secondary_capture
from monai_fgssl.report.dicom.structured_report import Prediction, write_sr
from monai_fgssl.report.heat_maps import batch_heat_maps, draw_heat_maps
from monai_fgssl.report.results import batch_results
from monai_fgssl.utils.errors import DataError

__all__ = ["DicomResultWriter", "as_prediction", "dicom_files"]

UNCERTAINTIES = ("entropy", "stage_disagreement", "orientation_disagreement")


class DicomResultWriter:
    """Writes a structured report for every DICOM file or series among the images, and its heat maps if there are some.

    Writes ``dicom/<name>_report.dcm`` and ``dicom/<name>_heat_maps.dcm`` in ``output_dir``; see
    :func:`~monai_fgssl.report.dicom.structured_report.write_sr`. A file whose header lacks what a report must refer to
    is added to the failures of the stream.

    Args:
        output_dir: folder of the folder ``dicom``.
        class_names: one for each score.
        model: what the reports say of the model.
        stream: what the evaluator reads from.
        temperature: see :func:`~monai_fgssl.report.results.describe`.
        heat_maps: whether to write them too.
        frame: number of the frame that was looked at, from 0, where the images of the stream do not say theirs.

    Raises:
        ImportError: without highdicom.
    """

    def __init__(
        self,
        output_dir: str | Path,
        class_names: Sequence[str],
        model: ModelDescription,
        stream: ImageStream,
        temperature: float = 1.0,
        heat_maps: bool = False,
        frame: int | str | None = None,
    ) -> None:
        import_highdicom()
        self.folder = Path(output_dir) / "dicom"
        self.class_names = list(class_names)
        self.model = model
        self.stream = stream
        self.temperature = temperature
        self.heat_maps = heat_maps
        self.frame = frame if isinstance(frame, int) else None

    def attach(self, engine: Workflow) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._write)

    def _write(self, engine: Workflow) -> None:
        batch, images = engine.state.batch, engine.state.output[Keys.IMAGE]
        results = batch_results(engine, self.class_names, self.temperature)
        maps = batch_heat_maps(engine) if self.heat_maps else None
        images_of_batch = zip(batch["name"], batch["path"], batch["frame"], strict=True)
        for i, (name, path, own_frame) in enumerate(images_of_batch):
            files = dicom_files(Path(path))
            if not files:
                continue
            try:
                headers = [open_dicom(file, headers_only=True) for file in files]
                prediction = as_prediction(results[i], self.class_names)
                frame = self.frame if own_frame is None else own_frame
                write_sr(self.folder / f"{name}_report.dcm", headers, prediction, self.model, frame=frame)
                if maps is not None:
                    picture = draw_heat_maps(images[i], maps[i])
                    description = f"The image, and Grad-CAM of each stage for {results[i]['prediction']}."
                    path_of_picture = self.folder / f"{name}_heat_maps.dcm"
                    write_secondary_capture(path_of_picture, headers, picture, description, self.model, frame=frame)
            except DataError as error:
                self.stream.failures.append((name, f"{path} {error}"))


def as_prediction(result: Mapping[str, Any], class_names: Sequence[str]) -> Prediction:
    """Turn one result of :func:`~monai_fgssl.report.results.describe` into the content of a report."""
    return Prediction(
        class_names,
        list(result["probabilities"].values()),
        [list(stage.values()) for stage in result["stages"].values()],
        {name: result[name] for name in UNCERTAINTIES if result[name] is not None},
    )


def dicom_files(path: Path) -> list[Path]:
    """The file itself or those of the series in a folder; none where it is no DICOM."""
    if path.is_dir():
        return files_of_series(path)
    return [path] if is_dicom(path) else []
