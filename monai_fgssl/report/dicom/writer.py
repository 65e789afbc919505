# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Write DICOM results into the studies of the images, during inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.engines import Workflow
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys

from monai_fgssl.data.store.stream import ImageStream
from monai_fgssl.metrics import UNLIKE_TRAINING, DecisionRule, FeatureDistances, FindingSets, PredictionSets, Thresholds
from monai_fgssl.report.dicom.header import ModelDescription, import_highdicom
from monai_fgssl.report.dicom.secondary_capture import write_secondary_capture
from monai_fgssl.report.dicom.structured_report import Prediction, write_sr
from monai_fgssl.report.heat_maps import batch_heat_maps, draw_heat_maps, explained_classes
from monai_fgssl.report.results import batch_results
from monai_fgssl.tasks import MULTICLASS, TASKS, Task
from monai_fgssl.utils.errors import DataError, printable
from monai_fgssl.utils.files import concerns_one_file

__all__ = ["DicomResultWriter", "as_prediction"]

UNCERTAINTIES = ("entropy", "stage_disagreement", "orientation_disagreement")


class DicomResultWriter:
    """Writes a structured report, and heat maps if wanted, for every DICOM file or series among the images.

    It writes ``dicom/<name>_report.dcm`` and ``dicom/<name>_heat_maps.dcm`` in ``output_dir``; see
    :func:`~monai_fgssl.report.dicom.structured_report.write_sr`. If a header lacks an identifier that a report needs,
    the file is added to ``incomplete`` of the stream.

    Each batch must have the headers of its images as ``"headers"``: read the images by
    :class:`~monai_fgssl.data.ReadImaged` with ``headers_key="headers"``. No file is opened again.

    Args:
        output_dir: folder of the folder ``dicom``.
        class_names: names of the classes, one for each score.
        model: description of the model for the reports.
        stream: stream that the evaluator reads from.
        temperature: see :func:`~monai_fgssl.report.results.describe`.
        prediction_sets: see :func:`~monai_fgssl.report.results.describe`.
        heat_maps: True: heat maps are written too.
        frame: number of the frame that was read, from 0, for images of the stream that do not have their own number.
        adjustment: see :func:`~monai_fgssl.report.results.describe`.
        feature_distances: see :func:`~monai_fgssl.report.results.batch_results`.
        task: see :func:`~monai_fgssl.report.results.describe`.
        class_number: see :func:`~monai_fgssl.report.heat_maps.batch_heat_maps`.

    Raises:
        ImportError: without highdicom.
        ValueError: when the first batch has no headers.
    """

    def __init__(
        self,
        output_dir: str | Path,
        class_names: Sequence[str],
        model: ModelDescription,
        stream: ImageStream,
        temperature: float = 1.0,
        prediction_sets: PredictionSets | FindingSets | None = None,
        heat_maps: bool = False,
        frame: int | str | None = None,
        adjustment: DecisionRule | None = None,
        feature_distances: FeatureDistances | None = None,
        task: Task = TASKS[MULTICLASS],
        class_number: int | None = None,
    ) -> None:
        import_highdicom()
        self.folder = Path(output_dir) / "dicom"
        self.class_names = list(class_names)
        self.model = model
        self.stream = stream
        self.temperature = temperature
        self.prediction_sets = prediction_sets
        self.heat_maps = heat_maps
        self.adjustment = adjustment
        self.feature_distances = feature_distances
        self.task = task
        self.class_number = class_number
        self.frame = frame if isinstance(frame, int) else None

    def attach(self, engine: Workflow) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._write)

    def _write(self, engine: Workflow) -> None:
        batch, images = engine.state.batch, engine.state.output[Keys.IMAGE]
        if "headers" not in batch:
            raise ValueError("DICOM results need the headers of the images: set headers_key='headers' of ReadImaged.")
        rules = self.temperature, self.prediction_sets, self.adjustment, self.feature_distances, self.task
        results = batch_results(engine, self.class_names, *rules)
        explained = self.temperature, self.adjustment, self.task, self.class_number
        maps = batch_heat_maps(engine, *explained) if self.heat_maps else None
        classes = explained_classes(engine, *explained) if self.heat_maps else []
        images_of_batch = zip(batch["name"], batch["path"], batch["frame"], batch["headers"], strict=True)
        for i, (name, path, own_frame, headers) in enumerate(images_of_batch):
            if not headers:
                continue
            try:
                prediction = as_prediction(results[i], self.class_names, self.adjustment)
                frame = self.frame if own_frame is None else own_frame
                write_sr(self.folder / f"{name}_report.dcm", headers, prediction, self.model, frame=frame)
                if maps is not None:
                    picture = draw_heat_maps(images[i], maps[i])
                    description = f"The image, and Grad-CAM of each stage for {self.class_names[classes[i]]}."
                    path_of_picture = self.folder / f"{name}_heat_maps.dcm"
                    write_secondary_capture(path_of_picture, headers, picture, description, self.model, frame=frame)
            except Exception as error:
                if isinstance(error, OSError) and not concerns_one_file(error):
                    raise
                # highdicom and pydicom raise any kind of error. Its text may repeat the patient's data, so it is
                # hidden.
                known = isinstance(error, (DataError, OSError))
                reason = f"{error}" if known else f"can't be written as DICOM ({type(error).__name__})."
                self.stream.incomplete.append((name, printable(f"{path} {reason}")))


def as_prediction(
    result: Mapping[str, Any], class_names: Sequence[str], adjustment: DecisionRule | None = None
) -> Prediction:
    """Turn one result of :func:`~monai_fgssl.report.results.describe` into the content of a report.

    Args:
        result: the result.
        class_names: names of the classes.
        adjustment: the rule that has decided; the report tells its thresholds.
    """
    found = result["findings"]
    return Prediction(
        class_names,
        list(result["probabilities"].values()),
        [list(stage.values()) for stage in result["stages"].values()],
        {name: result[name] for name in UNCERTAINTIES if result[name] is not None},
        result["prediction_set"] or (),
        result["prediction"] if found is None else "",
        None if result["distance"] is None else UNLIKE_TRAINING in result["reasons"],
        found,
        adjustment.values if isinstance(adjustment, Thresholds) else (),
        result["undecided_findings"],
    )
