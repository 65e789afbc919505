# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The MONAI transforms around the jigsaw puzzle: types, random state, trace, and MONAI's inverse machinery."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import CacheDataset, DataLoader, MetaTensor, decollate_batch, set_track_meta
from monai.transforms import (
    Compose,
    EnsureTyped,
    Flip,
    Flipd,
    Invertd,
    RandFlipd,
    RandRotate90d,
    Rotate90,
    Rotate90d,
    SpatialPad,
    SpatialPadd,
    Transform,
)

from monai_fgssl import transforms
from monai_fgssl.functional import random_permutations, shuffle_tiles
from monai_fgssl.transforms import JigsawPuzzle, JigsawPuzzled, RandJigsawPuzzle, RandJigsawPuzzled

ORDER = (3, 0, 1, 2)
CONTAINERS: list[Callable[[np.ndarray], Any]] = [np.asarray, torch.as_tensor, lambda x: MetaTensor(torch.as_tensor(x))]
CONTAINER_NAMES = ["array", "tensor", "MetaTensor"]


def image(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.RandomState(0).permutation(np.prod(shape)).reshape(shape).astype(dtype)


def sample() -> dict[str, np.ndarray]:
    return {"image": image(3, 8, 12), "mask": image(1, 8, 12, dtype=np.uint8), "label": np.int64(4)}


class TestJigsawPuzzle:
    @pytest.mark.parametrize("container", CONTAINERS, ids=CONTAINER_NAMES)
    @pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16, np.int16, np.float32, np.float64])
    def test_moves_tiles_and_keeps_the_type(self, container: Callable[[np.ndarray], Any], dtype: type) -> None:
        array = image(2, 4, 6, dtype=dtype)
        puzzle = JigsawPuzzle(2, ORDER)(container(array))
        top = np.concatenate([array[:, 2:, 3:], array[:, :2, :3]], axis=2)
        bottom = np.concatenate([array[:, :2, 3:], array[:, 2:, :3]], axis=2)
        assert isinstance(puzzle, MetaTensor)
        np.testing.assert_array_equal(puzzle.as_tensor().numpy(), np.concatenate([top, bottom], axis=1))
        assert puzzle.as_tensor().numpy().dtype == dtype

    @pytest.mark.parametrize("permutation", [ORDER, list(ORDER), np.array(ORDER), torch.tensor(ORDER)])
    def test_any_sequence_of_integers_is_a_permutation(self, permutation: Any) -> None:
        expected = JigsawPuzzle(2, ORDER)(image(1, 4, 4))
        assert torch.equal(JigsawPuzzle(2, permutation)(image(1, 4, 4)), expected)

    @pytest.mark.parametrize(("shape", "grid"), [((8,), 4), ((4, 6), 2), ((4, 4, 6), (1, 2, 2)), ((2, 2, 2, 4), 1)])
    def test_any_number_of_axes(self, shape: tuple[int, ...], grid: int | tuple[int, ...]) -> None:
        num_tiles = grid ** len(shape) if isinstance(grid, int) else int(np.prod(grid))
        permutation = random_permutations(1, num_tiles)
        array = image(2, *shape)
        expected = shuffle_tiles(torch.as_tensor(array)[None], grid, permutation)[0]
        assert torch.equal(JigsawPuzzle(grid, permutation[0])(array).as_tensor(), expected)

    def test_metadata_stays(self) -> None:
        affine = torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0], dtype=torch.float64))
        puzzle = JigsawPuzzle(2, ORDER)(MetaTensor(torch.rand(1, 4, 4), affine=affine, meta={"filename": "x.png"}))
        assert torch.equal(puzzle.affine, affine)
        assert puzzle.meta["filename"] == "x.png"

    def test_the_permutation_is_traced(self) -> None:
        (operation,) = JigsawPuzzle(2, ORDER)(image(1, 4, 4)).applied_operations
        assert operation["class"] == "JigsawPuzzle"
        assert operation["extra_info"]["permutation"].tolist() == list(ORDER)

    def test_negative_strides(self) -> None:
        array = image(1, 4, 4)
        expected = JigsawPuzzle(2, ORDER)(array[:, ::-1].copy())
        assert torch.equal(JigsawPuzzle(2, ORDER)(array[:, ::-1]), expected)

    @pytest.mark.parametrize("permutation", [(0, 0, 1, 2), (1, 2, 3, 4), (0.0, 1.0, 2.0, 3.0), ((0, 1), (1, 0))])
    def test_what_is_no_permutation_is_refused_at_once(self, permutation: Any) -> None:
        with pytest.raises(ValueError, match="permutations must"):
            JigsawPuzzle(2, permutation)

    def test_a_permutation_of_another_length_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"grid \(3, 3\) need \(1, 9\)"):
            JigsawPuzzle(3, ORDER)(image(1, 6, 6))


class TestRandJigsawPuzzle:
    def test_the_seed_decides(self) -> None:
        first, again, other = (RandJigsawPuzzle(4).set_random_state(seed)(image(1, 8, 8)) for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_every_call_draws_anew_unless_told_otherwise(self) -> None:
        puzzle = RandJigsawPuzzle(4).set_random_state(0)
        first = puzzle(image(1, 8, 8))
        assert not torch.equal(puzzle(image(1, 8, 8)), first)
        second = puzzle(image(1, 8, 8), randomize=False)
        assert torch.equal(puzzle(image(1, 8, 8), randomize=False), second)

    def test_the_global_random_state_is_left_alone(self) -> None:
        state = torch.get_rng_state()
        RandJigsawPuzzle(4).set_random_state(0)(image(1, 8, 8))
        assert torch.equal(torch.get_rng_state(), state)

    def test_prob(self) -> None:
        puzzle = RandJigsawPuzzle(4, prob=0.25).set_random_state(0)
        moved = sum(not np.array_equal(puzzle(image(1, 8, 8)), image(1, 8, 8)) for _ in range(400))
        assert 70 <= moved <= 130

    def test_cyclic_moves_every_tile(self) -> None:
        puzzle = RandJigsawPuzzle(4, permutation="cyclic").set_random_state(0)
        assert all((puzzle(image(1, 4, 4)) != torch.as_tensor(image(1, 4, 4))).all() for _ in range(20))

    def test_remainder(self) -> None:
        array = image(1, 9, 8)
        with pytest.raises(ValueError, match=r"does not divide the spatial shape \(9, 8\)"):
            RandJigsawPuzzle(4)(array)
        kept = RandJigsawPuzzle(4, remainder="keep").set_random_state(0)(array)
        np.testing.assert_array_equal(kept[:, 8:], array[:, 8:])
        assert not np.array_equal(kept, array)

    @pytest.mark.parametrize("option", ["permutation", "remainder"])
    def test_unknown_options_are_refused(self, option: str) -> None:
        with pytest.raises(ValueError, match="typo"):
            RandJigsawPuzzle(4, **{option: "typo"})

    def test_without_metadata_tensors_stay_plain(self) -> None:
        expected = RandJigsawPuzzle(4).set_random_state(0)(image(1, 8, 8)).as_tensor()
        set_track_meta(False)
        try:
            result = RandJigsawPuzzle(4).set_random_state(0)(image(1, 8, 8))
        finally:
            set_track_meta(True)
        assert type(result) is torch.Tensor
        assert torch.equal(result, expected)

    def test_survives_pickling(self) -> None:
        puzzle = RandJigsawPuzzle((4, 2), permutation="cyclic").set_random_state(0)
        copy = pickle.loads(pickle.dumps(puzzle))
        assert torch.equal(copy(image(1, 8, 8)), puzzle(image(1, 8, 8)))


class TestInverse:
    @pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16, np.float64])
    @pytest.mark.parametrize("container", CONTAINERS, ids=CONTAINER_NAMES)
    @pytest.mark.parametrize("prob", [0.0, 1.0])
    def test_array_version(self, prob: float, container: Callable[[np.ndarray], Any], dtype: type) -> None:
        puzzle = RandJigsawPuzzle((2, 3), prob=prob, remainder="keep").set_random_state(0)
        shuffled = puzzle(container(image(2, 9, 10, dtype=dtype)))
        restored = puzzle.inverse(shuffled)
        np.testing.assert_array_equal(restored.as_tensor().numpy(), image(2, 9, 10, dtype=dtype))
        assert restored.as_tensor().numpy().dtype == dtype
        assert restored.applied_operations == []

    def test_each_result_carries_its_own_permutation(self) -> None:
        puzzle = RandJigsawPuzzle(4).set_random_state(0)
        shuffled = [puzzle(image(1, 8, 8)) for _ in range(3)]
        for result in shuffled:
            np.testing.assert_array_equal(puzzle.inverse(result), image(1, 8, 8))

    @pytest.mark.parametrize(
        "puzzle", [RandJigsawPuzzle(4), JigsawPuzzle(4, (*range(1, 16), 0))], ids=["random", "given"]
    )
    def test_between_other_invertible_transforms(self, puzzle: Transform) -> None:
        chain = Compose([Rotate90(), SpatialPad((16, 16)), puzzle, Flip(1), puzzle])
        chain.set_random_state(0)
        result = chain(image(2, 8, 12))
        assert [op["class"] for op in result.applied_operations].count(type(puzzle).__name__) == 2
        np.testing.assert_array_equal(chain.inverse(result), image(2, 8, 12))

    def test_dictionary_version_with_several_keys(self) -> None:
        keys = ("image", "mask")
        chain = Compose(
            [
                RandFlipd(keys, prob=0.5, spatial_axis=0),
                RandJigsawPuzzled(keys, (2, 3)),
                RandRotate90d(keys, prob=0.5),
                JigsawPuzzled(keys, 2, ORDER),
                SpatialPadd(keys, (14, 14)),
                RandJigsawPuzzled(keys, 7, prob=0.5, permutation="cyclic"),
            ]
        )
        for seed in range(8):
            restored = chain.set_random_state(seed).inverse(chain(sample()))
            for key in keys:
                np.testing.assert_array_equal(restored[key], sample()[key])
                assert restored[key].as_tensor().numpy().dtype == sample()[key].dtype

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_cached_collated_decollated_and_inverted(self, num_workers: int) -> None:
        keys = ("image", "mask")
        samples = [{**sample(), "image": sample()["image"] + 1000 * i} for i in range(6)]
        chain = Compose([EnsureTyped(keys), Flipd(keys, 0), JigsawPuzzled(keys, 2, ORDER), RandJigsawPuzzled(keys, 4)])
        chain.set_random_state(0)
        loader = DataLoader(
            CacheDataset(samples, chain, progress=False), batch_size=3, num_workers=num_workers, shuffle=False
        )
        restored = [chain.inverse(item) for batch in loader for item in decollate_batch(batch)]
        assert len(restored) == 6
        for item, expected in zip(restored, samples, strict=True):
            for key in keys:
                np.testing.assert_array_equal(item[key], expected[key])

    def test_invertd_puts_a_prediction_back(self) -> None:
        chain = Compose([Rotate90d("image"), RandJigsawPuzzled("image", 4)]).set_random_state(0)
        batch = next(iter(DataLoader(CacheDataset([sample(), sample()], chain, progress=False), batch_size=2)))
        # As from a segmentation network: other channels and another type.
        batch["prediction"] = batch["image"].sum(dim=1, keepdim=True).double()
        invert = Invertd("prediction", transform=chain, orig_keys="image")
        for item in decollate_batch(batch):
            np.testing.assert_array_equal(invert(item)["prediction"], sample()["image"].sum(axis=0, keepdims=True))


class TestDictionary:
    def test_keys_share_one_permutation(self) -> None:
        data = {"image": image(1, 8, 8), "mask": image(1, 8, 8), "coarse": image(1, 4, 4), "other": image(1, 8, 8)}
        result = RandJigsawPuzzled(("image", "mask", "coarse"), 4).set_random_state(0)(data)
        assert torch.equal(result["image"], result["mask"])
        permutations = [result[key].applied_operations[0]["extra_info"]["permutation"] for key in ("image", "coarse")]
        assert torch.equal(*permutations)
        assert result["other"] is data["other"]
        np.testing.assert_array_equal(data["image"], image(1, 8, 8))

    def test_equals_the_array_version(self) -> None:
        result = RandJigsawPuzzled("image", 4).set_random_state(7)({"image": image(1, 8, 8)})["image"]
        assert torch.equal(result, RandJigsawPuzzle(4).set_random_state(7)(image(1, 8, 8)))

    def test_compose_sets_the_seed(self) -> None:
        chain = Compose([RandJigsawPuzzled("image", 4), RandJigsawPuzzled("image", 2)])
        first, again = (chain.set_random_state(5)({"image": image(1, 8, 8)})["image"] for _ in range(2))
        assert torch.equal(first, again)

    @pytest.mark.parametrize(("puzzle", "order"), [(JigsawPuzzled, {"permutation": ORDER}), (RandJigsawPuzzled, {})])
    @pytest.mark.parametrize("keys", [("image", "gone"), ("gone", "image"), ("gone",)])
    def test_missing_keys(self, keys: tuple[str, ...], puzzle: Callable[..., Transform], order: dict[str, Any]) -> None:
        with pytest.raises(KeyError, match="gone"):
            puzzle(keys, 2, **order)(sample())
        result = puzzle(keys, 2, **order, allow_missing_keys=True)(sample())
        assert result.keys() == sample().keys()
        assert isinstance(result["image"], MetaTensor) == ("image" in keys)

    def test_from_a_bundle_config(self) -> None:
        config = {
            "_target_": "monai_fgssl.transforms.RandJigsawPuzzled",
            "keys": ["image"],
            "grid": [2, 3],
            "permutation": "cyclic",
        }
        puzzle = ConfigParser({"puzzle": config}).get_parsed_content("puzzle")
        assert puzzle(sample())["image"].shape == (3, 8, 12)

    @pytest.mark.parametrize("name", ["JigsawPuzzle", "RandJigsawPuzzle"])
    def test_aliases(self, name: str) -> None:
        dictionary_version = getattr(transforms, f"{name}d")
        assert getattr(transforms, f"{name}D") is dictionary_version
        assert getattr(transforms, f"{name}Dict") is dictionary_version
