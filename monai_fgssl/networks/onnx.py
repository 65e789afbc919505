# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Export a trained network as an ONNX file, and use such a file instead of the network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from monai_fgssl.utils.errors import SettingsError

from .base import StagedNet

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["OnnxNet", "export_onnx"]


OUTPUTS = ["stage_logits", "stage_means"]
"""Names of a file's outputs. Files of earlier releases have the first only."""


class StageOutputs(nn.Module):
    """Network whose ``forward`` gives the logits of every step and the means of the stages, for the export.

    A network of another class than :class:`StagedNet` gives no means.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map (B, C, *spatial) to (B, K + 1, num_classes) and (B, D)."""
        if isinstance(self.network, StagedNet):
            return self.network.stage_logits_and_means(image)
        return (self.network.stage_logits(image),)


def export_onnx(network: StagedNet, path: str | Path, image_shape: tuple[int, ...]) -> None:
    """Export ``stage_logits`` and the means of the stages, for any batch size.

    Args:
        network: network in any mode. It is exported in evaluation mode, and its own mode does not change.
        path: file to write.
        image_shape: ``(C, *spatial)``.

    Raises:
        ImportError: without ``monai-fgssl[onnx]``.
    """
    training = network.training
    device = next(network.parameters()).device
    module = StageOutputs(network).eval()
    # Two images: with one image, the exporter would fix the batch size to 1.
    example = torch.zeros(2, *image_shape, device=device)
    try:
        # Faster kernels of attention give tensors of other strides than the operators that they are exported as.
        with sdpa_kernel(SDPBackend.MATH):
            torch.onnx.export(
                module,
                (example,),
                path,
                input_names=["image"],
                output_names=OUTPUTS if isinstance(network, StagedNet) else OUTPUTS[:1],
                dynamic_shapes=({0: "batch"},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        network.train(training)


class OnnxNet(nn.Module):
    """Run a file of :func:`export_onnx` with ONNX Runtime on the CPU. It replaces the network in evaluation.

    Args:
        path: ONNX file.
        num_threads: number of threads of ONNX Runtime; None: as many as torch uses.

    Attributes:
        num_steps: K + 1.
        num_classes: number of scores of each step.
        has_means: True if the file gives the means of the stages too, as those of this release do.
        image_shape: shape ``(C, *spatial)`` of the images.

    Raises:
        ImportError: without ``monai-fgssl[onnx]``.
        SettingsError: when the file is missing, damaged, not a model of :func:`export_onnx`, or keeps weights in other
            files, which could be any files of the machine.
    """

    def __init__(self, path: str | Path, num_threads: int | None = None) -> None:
        super().__init__()
        import onnxruntime

        _check_onnx(Path(path))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or torch.get_num_threads()
        try:
            self._session: onnxruntime.InferenceSession = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            # A name that is no text, also that of a size, is an error once it is asked for.
            _ = [(one.name, one.shape) for one in (*self._session.get_inputs(), *self._session.get_outputs())]
        except Exception as error:
            raise SettingsError(f"{path} can't be run by ONNX Runtime: {str(error)[:200]}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        names = [one.name for one in outputs]
        if [one.name for one in inputs] != ["image"] or names not in (OUTPUTS, OUTPUTS[:1]):
            raise SettingsError(f"{path} is not a model of this package: export it with configs/export_onnx.json.")
        sizes = [*outputs[0].shape[1:], *inputs[0].shape[1:]]
        if len(outputs[0].shape) != 3 or not all(isinstance(size, int) for size in sizes):
            raise SettingsError(f"{path} is not a model of this package: its shapes are {inputs[0].shape} and {sizes}.")
        self.path = Path(path)
        self.has_means = names == OUTPUTS
        self.num_steps, self.num_classes, *image_shape = sizes
        self.image_shape = tuple(image_shape)

    def stage_logits(self, x: Tensor) -> Tensor:
        """Logits of every step, (B, K + 1, num_classes), of images (B, C, *spatial) float in [0, 1].

        Raises:
            SettingsError: when the images have another shape than the model was exported for.
        """
        return self._run(OUTPUTS[:1], x)[0]

    def stage_logits_and_means(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`~monai_fgssl.networks.base.StagedNet.stage_logits_and_means`.

        Raises:
            SettingsError: when the file has no means; see also :meth:`stage_logits`.
        """
        if not self.has_means:
            raise SettingsError(
                f"{self.path} was exported by an earlier release and lacks the means of the stages, which tell images "
                "that are unlike the training images: export it again with configs/export_onnx.json."
            )
        logits, means = self._run(OUTPUTS, x)
        return logits, means

    def _run(self, outputs: list[str], x: Tensor) -> list[Tensor]:
        if tuple(x.shape[1:]) != self.image_shape:
            raise SettingsError(
                f"{self.path} takes images of the shape {self.image_shape}, but its record says {tuple(x.shape[1:])}: "
                "they belong to different models. Export it again with configs/export_onnx.json."
            )
        found = self._session.run(outputs, {"image": x.float().contiguous().cpu().numpy()})
        return [torch.from_numpy(values).to(x.device) for values in found]

    def forward(self, x: Tensor) -> Tensor:
        """Sum of the logits of every step, (B, num_classes)."""
        return self.stage_logits(x).sum(dim=1)


def _tensors(message: Any) -> Iterator[Any]:
    """All tensors of a model: in weights, attributes of nodes, graphs inside nodes, and functions."""
    import onnx

    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in [value] if hasattr(value, "ListFields") else value:
                yield from _tensors(one)


def _check_onnx(path: Path) -> None:
    """Refuse a damaged file, and a file that names other files."""
    import onnx

    if not path.is_file():
        raise SettingsError(f"there is no model at {path}: export it first (configs/export_onnx.json).")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise SettingsError(f"{path} is damaged, or not an ONNX model ({type(error).__name__}).") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model)):
        raise SettingsError(f"{path} keeps weights in other files: export it again with configs/export_onnx.json.")
