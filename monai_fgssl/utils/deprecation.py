# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Former names of arguments and attributes, which work for one release with a warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

__all__ = ["renamed_argument", "warn_former_name"]

P = ParamSpec("P")
R = TypeVar("R")


def warn_former_name(former: str, name: str, kind: str = "name", stacklevel: int = 3) -> None:
    """Warn that the next release removes a former name.

    Args:
        former: the name in earlier releases.
        name: the name today.
        kind: kind of the name, such as a function or a setting; the message begins with it.
        stacklevel: see :func:`warnings.warn`.
    """
    message = f"the {kind} {former} is now called {name}; the next release will not know {former}."
    warnings.warn(message, FutureWarning, stacklevel=stacklevel)


def renamed_argument(former: str, name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function also accept a keyword argument by its former name.

    ``monai.utils.deprecated_arg`` does this only for functions that also take any other keyword.

    Args:
        former: name of the argument in earlier releases.
        name: its name today.

    Example:
        >>> @renamed_argument("features", "embedding_dim")
        ... def double(embedding_dim):
        ...     return 2 * embedding_dim
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     double(features=4)
        8
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if former in kwargs and name not in kwargs:
                warn_former_name(former, name, "argument")
                kwargs[name] = kwargs.pop(former)
            return function(*args, **kwargs)

        return call

    return decorate
