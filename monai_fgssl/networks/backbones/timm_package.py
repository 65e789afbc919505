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
    """Import a package that imports torchvision without needing it for the parts that are used here.

    timm uses torchvision in its data loaders and in one class of frozen norms, peft in models that are not used here.
    If torchvision is missing, or was built for another torch, stand-ins replace it during the import and are removed
    afterwards. A later ``import torchvision`` then raises its usual error.

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
        # In sys.modules, None marks a module that must not be imported.
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
        # A torchvision that was built for another torch raises a RuntimeError instead of an ImportError.
        return False
    return True


class _Anything(type):
    """Type of the classes that replace torchvision's: they have any attribute, and can't be instantiated."""

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
    # An import that failed leaves parts of the package in sys.modules.
    _forget_torchvision()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        _forget_torchvision()
