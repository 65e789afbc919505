# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Compare the time of pre-training with the authors' scheme and with lightly's Barlow Twins on the same backbone.

Prints Markdown: ``python -m benchmarks.compare > benchmarks/results/compare.md``. Needs ``pip install lightly``, which
needs torchvision. Both packages run in that environment.

A pass is one forward of one view with its share of the backward. An iteration of FG-SSL has 8 passes, an iteration of
Barlow Twins has 2. Lightly's variant uses lightly's own module and loss, as in its documentation, on the backbone of
this package. It is timed in float32, as in the documentation, and with the same settings as ours. No variant computes
views here: the images are ready.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from monai_fgssl.networks import make_backbone
from monai_fgssl.networks.precision import move

from .pretrain import AUTHORS_WIDTH, make_limit, make_parser, make_variant, parse, timed
from .timing import command, machine

OURS = "early exit + channels_last + bfloat16 + fused AdamW"


class LightlyBarlowTwins(nn.Module):
    """Barlow Twins as in lightly's documentation."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        from lightly.models.modules import BarlowTwinsProjectionHead

        self.backbone = make_backbone(backbone)
        self.projection_head = BarlowTwinsProjectionHead(self.backbone.channels[-1], 2048, 2048)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to projections."""
        return self.projection_head(self.backbone(x)[-1].flatten(2).mean(2))


def make_lightly(args: argparse.Namespace, fast: bool) -> Callable[[], None]:
    """Return a function that runs one iteration of lightly's Barlow Twins."""
    from lightly.loss import BarlowTwinsLoss

    torch.manual_seed(0)
    memory_format = torch.channels_last if fast else torch.contiguous_format
    network = LightlyBarlowTwins(args.backbone)
    move(network, args.device, memory_format)
    criterion = BarlowTwinsLoss()
    optimizer = torch.optim.AdamW(network.parameters(), fused=fast)
    views = [args.images.to(args.device, memory_format=memory_format).float() / 255 for _ in range(2)]
    views[1] = views[1].flip(-1).contiguous(memory_format=memory_format)

    def iterate() -> None:
        with torch.autocast(torch.device(args.device).type, dtype=torch.bfloat16, enabled=fast):
            first, second = (network(view) for view in views)
        loss = criterion(first.float(), second.float())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return iterate


def main() -> None:
    args = parse(make_parser(__doc__))
    passes = 2 * (len(args.grids) + 1)
    rows = {
        "FG-SSL, authors' scheme": (make_variant(args, "authors' scheme"), passes),
        "lightly's Barlow Twins, float32": (make_lightly(args, fast=False), 2),
        "lightly's Barlow Twins, channels_last + bfloat16 + fused AdamW": (make_lightly(args, fast=True), 2),
        f"FG-SSL, ours, blocks {AUTHORS_WIDTH} wide": (make_variant(args, OURS), passes),
        f"FG-SSL, ours, blocks {args.narrow_width} wide": (make_variant(args, f"{OURS} + narrow block"), passes),
        "backbone alone, channels_last + bfloat16": (make_limit(args), passes),
    }
    for function, _ in rows.values():
        function()
    rounds = [{name: timed(function, args.device) for name, (function, _) in rows.items()} for _ in range(args.repeats)]

    import lightly

    print("# Pre-training against others\n")
    print(f"Command: `{command()}`  ")
    versions = f"torch {torch.__version__}, lightly {lightly.__version__}"
    print(f"Machine: {machine(args.device)}; {versions}, {args.threads} threads  ")
    print(f"Date: {datetime.date.today()}\n")
    print(
        f"{args.backbone}, {args.image_size} px, batch {args.batch_size}. Medians of {args.repeats} rounds in which all"
    )
    print("take turns. A pass is one forward of one view with its share of the backward and of the optimizer.\n")
    print("| method | s per iteration | passes | ms per pass and image |")
    print("| --- | ---: | ---: | ---: |")
    for name, (_, count) in rows.items():
        seconds = median(r[name] for r in rounds)
        print(f"| {name} | {seconds:.2f} | {count} | {1e3 * seconds / count / args.batch_size:.1f} |")


if __name__ == "__main__":
    main()
