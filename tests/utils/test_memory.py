# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""If the memory is not enough, the message names the setting to lower."""

from __future__ import annotations

import pytest
import torch

from monai_fgssl.engines import HierarchicalEvaluator, PreTrainer, ProgressiveTrainer
from monai_fgssl.losses import CrossCorrelationLoss
from monai_fgssl.networks import HierarchicalNet
from monai_fgssl.utils.errors import SettingsError
from monai_fgssl.utils.memory import is_out_of_memory, naming_setting

TOO_MUCH = 2**50


def take_too_much(*_: object) -> torch.Tensor:
    return torch.empty(TOO_MUCH, dtype=torch.uint8)


def test_real_errors_are_told_from_others() -> None:
    for take in (take_too_much, lambda: bytearray(2**62)):
        with pytest.raises((RuntimeError, MemoryError)) as told:
            take()
        assert is_out_of_memory(told.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_the_setting_is_named_and_other_errors_pass() -> None:
    with (
        pytest.raises(
            SettingsError, match=r"pre-training needs more memory than the computer has free: lower --x 4, or"
        ),
        naming_setting("pre-training", "--x 4"),
    ):
        take_too_much()
    with pytest.raises(SettingsError, match="than the GPU has free"), naming_setting("a", "--x"):
        raise torch.OutOfMemoryError("CUDA out of memory.")
    with pytest.raises(KeyError), naming_setting("a", "--x"):
        raise KeyError


def batches(size: int) -> list[dict[str, torch.Tensor]]:
    return [{"image": torch.zeros(size, 3, 16, 16), "label": torch.arange(size) % 2}]


def test_each_phase_names_its_batch_size() -> None:
    network = HierarchicalNet("resnet18", num_classes=2, stages=[0], width=4, embedding_dim=4)
    common = {
        "device": "cpu",
        "max_epochs": 1,
        "train_data_loader": batches(4),
        "network": network,
        "optimizer": torch.optim.SGD(network.parameters(), 0.1),
        "grids": [2],
    }
    pretrainer = PreTrainer(
        **common, loss_function=CrossCorrelationLoss(), regularized_view=take_too_much, distorted_view=take_too_much
    )
    with pytest.raises(SettingsError, match=r"pre-training needs .* lower --pretrain_batch_size"):
        pretrainer.run()
    trainer = ProgressiveTrainer(**common, loss_function=torch.nn.CrossEntropyLoss(), view=take_too_much)
    with pytest.raises(SettingsError, match=r"training needs .* lower --batch_size"):
        trainer.run()
    network.stage_logits = take_too_much  # type: ignore[method-assign, assignment]
    evaluator = HierarchicalEvaluator("cpu", batches(4), network, batch_size_setting="--validate#dataloader#batch_size")
    with pytest.raises(SettingsError, match=r"evaluation needs .* lower --validate#dataloader#batch_size, or --image"):
        evaluator.run()
