# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The log of a run: printed text, stored text, and warnings that are stored but not printed."""

from __future__ import annotations

import logging
import logging.config
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from monai_fgssl.utils.run_log import close_log, logged_warnings, open_log, record, tell, within_a_run


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_log()


def test_told_is_printed_and_kept_recorded_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell("before")
    open_log(tmp_path / "deep" / "run.log", {"seed": 3})
    tell("told")
    record("recorded")
    with within_a_run():
        # It writes into the same file.
        open_log(tmp_path / "other.log", {})
        tell("inner")
        tell("inner progress", progress=True)
    close_log()
    tell("after")
    assert capsys.readouterr().out.splitlines() == ["before", "told", "inner progress", "after"]
    kept = (tmp_path / "deep" / "run.log").read_text(encoding="utf-8")
    for text in ("seed: 3", "told", "recorded", "inner", "inner progress"):
        assert f"{text}\n" in kept
    assert "before" not in kept
    assert "after" not in kept
    assert not (tmp_path / "other.log").exists()


def test_a_second_run_does_not_erase_the_first(tmp_path: Path) -> None:
    for number in range(2):
        open_log(tmp_path / "run.log", {"run": number})
        tell(f"line of {number}")
    close_log()
    kept = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert [kept.count(text) for text in ("run: 0", "line of 0", "run: 1", "line of 1")] == [1, 1, 1, 1]


def test_a_library_that_configures_logging_silences_no_run(tmp_path: Path) -> None:
    open_log(tmp_path / "run.log", {})
    tell("before")
    loggers = [logger for logger in logging.Logger.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    enabled = [logger for logger in loggers if not logger.disabled]
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
    tell("after")
    close_log()
    for logger in enabled:
        logger.disabled = False
    kept = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert "before" in kept
    assert "after" in kept


def test_warnings_are_kept_each_once(tmp_path: Path) -> None:
    open_log(tmp_path / "run.log", {})
    for _ in range(2):
        logging.getLogger("monai_fgssl.somewhere").warning("the features are collapsing")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(True)
            warnings.warn("an old name", FutureWarning, stacklevel=1)
    found = logged_warnings()
    assert found[0] == "the features are collapsing"
    assert sum("an old name" in text for text in found) == 1
    close_log()
    assert logged_warnings() == []
    assert (tmp_path / "run.log").read_text(encoding="utf-8").count("the features are collapsing") == 2
