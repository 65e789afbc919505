# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The packages timm and peft, with or without a torchvision that works."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["import_timm", "import_without_torchvision"]


def import_timm(wanted_for: str) -> Any:
    """Import timm, see :func:`import_without_torchvision`."""
    return import_without_torchvision("timm", wanted_for, "timm")


def import_without_torchvision(package: str, wanted_for: str, extra: str) -> Any:
    """Import a package that imports torchvision, but does not need it for what is used here.

    timm wants it for its data loaders and for one class of frozen norms, peft for models of images that it imports and
    nobody asked for. Where torchvision is missing, or was made for another torch, they get stand-ins in its place,
    which are gone again when the package is there: a later ``import torchvision`` says what it would have said.

    Args:
        package: ``timm`` or ``peft``.
        wanted_for: the thing that needs timm, named in the message.
        extra: extra of this package that installs timm.

    Raises:
        ImportError: when the package itself is missing or can't be imported.
    """

    def fail(what: str) -> Any:
        raise ImportError(f"{wanted_for} needs {package}, which {what}: pip install 'monai-fgssl[{extra}]'.")

    if package in sys.modules:
        # None stands for a module that is not to be imported.
        return importlib.import_module(package) if sys.modules[package] is not None else fail("is missing")
    try:
        if _torchvision_works():
            return importlib.import_module(package)
        with _torchvision_replaced():
            return importlib.import_module(package)
    except ModuleNotFoundError as error:
        fail(f"can't be imported ({error})")
    except Exception as error:
        fail(f"can't be imported ({type(error).__name__}: {str(error).splitlines()[0][:100]})")


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
        raise ImportError(f"this needs torchvision.{cls.__name__}: install the torchvision of your torch.")


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
