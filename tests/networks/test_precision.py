# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Precisions by name, placement of networks for a precision, and allowed values of the setting ``amp``."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import nn

from monai_fgssl.networks import HierarchicalNet, Precision, PrecisionChoice, precision
from monai_fgssl.networks.precision import sensible_precisions
from monai_fgssl.utils.errors import SettingsError

NAMES = [numbers + order for numbers in ("float32", "tf32", "bfloat16") for order in ("", "_channels_last")]


def make_network(dims: int = 2) -> HierarchicalNet:
    torch.manual_seed(0)
    return HierarchicalNet("resnet18", spatial_dims=dims, in_channels=3, num_classes=3, width=8, embedding_dim=4)


def strides(network: nn.Module) -> list[tuple[int, ...]]:
    return [parameter.stride() for parameter in network.parameters()]


@pytest.mark.parametrize("name", NAMES)
def test_names_stand_for_precisions(name: str) -> None:
    assert Precision.from_name(name).name == name
    assert str(PrecisionChoice(name)) == name


@pytest.mark.parametrize("dims", [2, 3])
def test_a_network_that_was_placed_otherwise_is_as_if_placed_at_once(dims: int) -> None:
    """Also where an axis has one entry: torch takes both orders for the same there."""
    values = list(make_network(dims).parameters())
    for first, second in permutations([Precision("float32", False), Precision("float32", True)]):
        moved = second.place(first.place(make_network(dims), "cpu"), "cpu")
        assert strides(moved) == strides(second.place(make_network(dims), "cpu"))
        assert all(torch.equal(one, other) for one, other in zip(values, moved.parameters(), strict=True))


@pytest.mark.parametrize("dims", [2, 3])
def test_both_orders_compute_the_same(dims: int) -> None:
    images = torch.rand(4, 3, *[32] * dims, generator=torch.Generator().manual_seed(0))
    results = []
    for found in sensible_precisions("cpu", dims, exact=True):
        # Not with the statistics of so small a batch: they would amplify roundings.
        network = found.place(make_network(dims), "cpu").eval()
        with found.autocast("cpu"):
            output = network.backbone(images)[-1]
        output.square().sum().backward()
        results.append([output, *(parameter.grad for parameter in network.backbone.parameters())])
    assert len(results) == 2
    for one, other in zip(*results, strict=True):
        assert (one - other).norm() <= 1e-3 * one.norm()


def test_mixed_precision_computes_in_bfloat16() -> None:
    weight = torch.rand(4, 4)
    for name in NAMES:
        with Precision.from_name(name).autocast("cpu"):
            assert ((weight @ weight).dtype == torch.bfloat16) == name.startswith("bfloat16")


@pytest.mark.parametrize(
    ("amp", "dims", "name"),
    [
        (True, 2, "bfloat16_channels_last"),
        ("true", 3, "bfloat16"),
        (False, 2, "float32_channels_last"),
        ("False", 3, "float32"),
        ("float32", 2, "float32"),
    ],
)
def test_explicit_values_are_kept(amp: str | bool, dims: int, name: str) -> None:
    choice = PrecisionChoice(amp, "cpu", dims)
    assert (str(choice), choice.open) == (name, False)


@pytest.mark.parametrize("amp", ["yes", "float16", "channels_last", "float32_channels_last_", 3, None])
def test_other_values_are_refused(amp: object) -> None:
    with pytest.raises(SettingsError, match="--amp must be auto, true, false or one of float32, float32_channels_last"):
        PrecisionChoice(amp)  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["gpu", "cuda:x", 3])
def test_an_unknown_device_is_refused(device: object) -> None:
    with pytest.raises(SettingsError, match=f"--device must be one of torch's, such as cpu or cuda:0, got {device!r}"):
        PrecisionChoice(device=device)  # type: ignore[arg-type]


@pytest.mark.parametrize("has_bfloat16", [False, True])
def test_candidates_depend_on_the_device(has_bfloat16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda *_: has_bfloat16)
    exact, mixed = ["float32", "float32_channels_last"], ["bfloat16_channels_last"] * has_bfloat16
    assert [found.name for found in sensible_precisions("cpu")] == exact + mixed
    assert [found.name for found in sensible_precisions("cuda")][:2] == ["tf32", "tf32_channels_last"]
    # Predictions do not depend on the speed of the machine.
    assert [found.name for found in sensible_precisions("cpu", exact=True)] == exact
    choice = PrecisionChoice()
    assert choice.open
    assert str(choice) == "auto"
    assert choice.current.name == (mixed or ["float32_channels_last"])[0]
    assert PrecisionChoice(exact=True).current.name == "float32_channels_last"


def test_a_choice_is_recorded_and_places_the_network() -> None:
    choice, network = PrecisionChoice(), make_network()
    choice.choose("float32", network)
    assert (str(choice), choice.open) == ("float32", False)
    assert strides(network) == strides(make_network())
