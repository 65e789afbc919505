# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The package timm, with or without a torchvision that works."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["import_timm"]


def import_timm(wanted_for: str) -> Any:
    """Import timm.

    timm imports torchvision, for its data loaders and for one class of frozen norms, neither of which a backbone
    needs. Where torchvision is missing, or was made for another torch, timm gets stand-ins in its place, which are gone
    again when timm is there: a later ``import torchvision`` says what it would have said.

    Args:
        wanted_for: what needs it, for the message.

    Raises:
        ImportError: when timm itself is missing or can't be imported.
    """
    if "timm" in sys.modules:
        # None stands for a module that is not to be imported.
        return importlib.import_module("timm") if sys.modules["timm"] is not None else _fail(wanted_for, "is missing")
    try:
        if _torchvision_works():
            return importlib.import_module("timm")
        with _torchvision_replaced():
            return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        _fail(wanted_for, f"can't be imported ({error})")
    except Exception as error:
        _fail(wanted_for, f"can't be imported ({type(error).__name__}: {str(error).splitlines()[0][:100]})")


def _fail(wanted_for: str, what: str) -> Any:
    raise ImportError(f"{wanted_for} needs timm, which {what}: pip install 'monai-fgssl[timm]'.")


def _torchvision_works() -> bool:
    try:
        importlib.import_module("torchvision")
    except Exception:
        # Not an ImportError only: one that was made for another torch fails with a RuntimeError.
        return False
    return True


class _Anything(type):
    """Type of the classes that stand for those of torchvision: they have any attribute, and make no objects."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(f"{cls.__name__}.{name}", (), {})

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise ImportError(f"this part of timm needs torchvision.{cls.__name__}: install the torchvision of your torch.")


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = _Anything(name, (), {})
        setattr(self, name, value)
        return value


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if _is_torchvision(fullname) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def _is_torchvision(name: str) -> bool:
    return name.split(".")[0] == "torchvision"


def _forget_torchvision() -> None:
    for name in [name for name in sys.modules if _is_torchvision(name)]:
        del sys.modules[name]


@contextmanager
def _torchvision_replaced() -> Iterator[None]:
    finder = _Finder()
    # An import that failed leaves parts of itself behind.
    _forget_torchvision()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        _forget_torchvision()
