# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Changes of a file, from a flipped bit to another file's tail."""

from __future__ import annotations

import gzip
import json
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

__all__ = ["mutate"]

NUMBERS = (0, 1, 2, 3, 7, 8, 16, 127, 128, 255, 256, 1000, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
WORDS = (
    *(str(number) for number in NUMBERS),
    "-1",
    "-2147483649",
    "2147483648",
    "9" * 19,
    "9" * 400,
    "1e308",
    "1e999",
    "nan",
    "inf",
    "0.0",
    "",
    "LIST",
    "../../a",
    "/etc/passwd",
)
"""Replacements of a number in a text."""
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**9,
    10**30,
    1e308,
    float("nan"),
    "",
    "a",
    "$__import__('os').system('touch hacked')",
    "@bundle_root",
    "%configs/train.json",
    "../../../etc/passwd",
    "\0",
    "\ud800",
    [],
    {},
    [[1]],
    {"_target_": "os.system", "command": "touch hacked"},
)
"""Replacements of a value in JSON."""


def mutate(data: bytes, others: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """Change a file in one to eight places.

    Half of the changed PNG files get right checksums again, half of the gzipped files are changed inside, and half of
    the JSON files stay JSON, so that changes reach what lies behind.

    Args:
        data: the file.
        others: files whose pieces may be put in.
        rng: says what is changed.
    """
    deep = bool(rng.integers(2))
    if data[:2] == b"\x1f\x8b" and deep:
        with suppress(OSError, EOFError, zlib.error):
            return gzip.compress(_mutate_bytes(gzip.decompress(data), others, rng), 1)
    if data[:1] == b"{" and deep:
        return _mutate_json(data, rng)
    changed = _mutate_bytes(data, others, rng)
    return _with_checksums(changed) if changed[:8] == b"\x89PNG\r\n\x1a\n" and deep else changed


def _mutate_bytes(data: bytes, others: Sequence[bytes], rng: np.random.Generator) -> bytes:
    out = bytearray(data)
    for _ in range(min(8, int(rng.geometric(0.5)))):
        if not out:
            break
        change = CHANGES[int(rng.integers(len(CHANGES)))]
        change(out, others, rng)
    return bytes(out)


def _place(out: bytearray, rng: np.random.Generator) -> int:
    """A position; half of them in the first 512 bytes, where headers are."""
    size = min(len(out), 512) if rng.integers(2) else len(out)
    return int(rng.integers(max(1, size)))


def _piece(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(max(1, len(data))))
    return start, start + int(min(rng.geometric(0.05), 4096))


def _flip_bit(out: bytearray, others: Sequence[bytes], rng: np.random.Generator) -> None:
    out[_place(out, rng)] ^= 1 << int(rng.integers(8))


def _set_byte(out: bytearray, others: Sequence[bytes], rng: np.random.Generator) -> None:
    out[_place(out, rng)] = int(rng.integers(256))


def _set_number(out: bytearray, others: Sequence[bytes], rng: np.random.Generator) -> None:
    """A number at the edge of something, of 1 to 8 bytes in either order."""
    size = int(rng.choice([1, 2, 4, 8]))
    number = int(rng.choice(NUMBERS)) + int(rng.integers(-1, 2))
    start = _place(out, rng)
    raw = (number % (1 << 8 * size)).to_bytes(size, "little" if rng.integers(2) else "big")
    out[start : start + size] = raw[: len(out) - start]


def _set_word(out: bytearray, others: Sequence[bytes], rng: np.random.Generator) -> None:
    """Another number where a number stands as text."""
    found = [one.span() for one in re.finditer(rb"-?\d+(\.\d+)?", bytes(out[:4096]))]
    if found:
        start, end = found[int(rng.integers(len(found)))]
        out[start:end] = WORDS[int(rng.integers(len(WORDS)))].encode()


def _remove(out: bytearray, others: Sequence[bytes], rng: np.random.Generator) -> None:
    start, end = _piece(out, rng)
    del out[start:end]


def _repeat(out: bytearray, others: Sequence[bytes], rng: np.random.Generator) -> None:
    start, end = _piece(out, rng)
    out[start:start] = out[start:end] * int(rng.choice([1, 2, 50]))


def _insert(out: bytearray, others: Sequence[bytes], rng: np.random.Generator) -> None:
    start, end = _piece(out, rng)
    out[start:start] = rng.bytes(end - start) if rng.integers(2) else bytes(end - start)


def _overwrite(out: bytearray, others: Sequence[bytes], rng: np.random.Generator) -> None:
    start, end = _piece(out, rng)
    end = min(end, len(out))
    out[start:end] = bytes([int(rng.choice([0, 255]))]) * (end - start)


def _cut(out: bytearray, others: Sequence[bytes], rng: np.random.Generator) -> None:
    del out[_place(out, rng) :]


def _take_from_another(out: bytearray, others: Sequence[bytes], rng: np.random.Generator) -> None:
    other = others[int(rng.integers(len(others)))]
    start, end = _piece(other, rng)
    place = _place(out, rng)
    out[place : place + end - start] = other[start:end]


def _swap_tail(out: bytearray, others: Sequence[bytes], rng: np.random.Generator) -> None:
    other = others[int(rng.integers(len(others)))]
    place = _place(out, rng)
    out[place:] = other[place:]


CHANGES: tuple[Callable[[bytearray, Sequence[bytes], np.random.Generator], None], ...] = (
    _flip_bit,
    _set_byte,
    _set_number,
    _set_number,
    _set_number,
    _set_word,
    _remove,
    _repeat,
    _insert,
    _overwrite,
    _cut,
    _take_from_another,
    _swap_tail,
)


def _mutate_json(data: bytes, rng: np.random.Generator) -> bytes:
    tree = json.loads(data)
    for _ in range(min(4, int(rng.geometric(0.6)))):
        holders = list(_holders(tree))
        holder = holders[int(rng.integers(len(holders)))]
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            continue
        key = keys[int(rng.integers(len(keys)))]
        value = VALUES[int(rng.integers(len(VALUES)))]
        choice = int(rng.integers(4))
        if choice == 0:
            del holder[key]
        elif choice == 1 and isinstance(holder, dict):
            holder[str(value)] = holder[key]
        else:
            holder[key] = value
    return json.dumps(tree).encode()


def _holders(tree: Any) -> list[Any]:
    if not isinstance(tree, (dict, list)):
        return []
    inside = tree.values() if isinstance(tree, dict) else tree
    return [tree, *(holder for one in inside for holder in _holders(one))]


def _with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what they hold, as far as their lengths are right."""
    out, position = bytearray(data), 8
    while position + 12 <= len(out):
        (length,) = struct.unpack_from(">I", out, position)
        end = position + 8 + length
        if end + 4 > len(out):
            break
        struct.pack_into(">I", out, end, zlib.crc32(out[position + 4 : end]))
        position = end + 4
    return bytes(out)
