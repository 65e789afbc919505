# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Tables of text as programs write them: encodings, delimiters, and headers that need care.

The content tells the encoding and the delimiter; the suffix does not matter. A table that can be read in two ways is
refused, since nobody would notice a table that is read wrong.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_fgssl.utils.errors import DataError, first_names

__all__ = ["TABLE_SUFFIXES", "TextTable", "decode", "read_text_table"]

TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
"""Suffixes of files that may hold a table."""

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}

SAMPLE_LETTERS = 200_000
"""Size of the sample that tells the delimiter."""

# UTF-32 first: its mark in little-endian begins like that of UTF-16.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# Three letters of other alphabets in a row, or a sign within a word: Western European text has neither.
NOT_WESTERN = re.compile(r"[^\W\d_a-zA-Z]{3}|(?<=[^\W\d_])[^\w\s\x00-\x7f’–](?=[^\W\d_])")  # noqa: RUF001

CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")

WHOLE_NUMBER = re.compile(r"-?\d+")

QUOTED_TEXT = re.compile(r'="(.*)"', re.DOTALL)
"""A cell that keeps a spreadsheet from taking a text such as 001 for a number."""

FORMULA = re.compile(r"=\s*[+-]?\s*(\$?[A-Za-z]{1,3}\$?\d+(?![\w.])|[A-Za-z][A-Za-z.]*\()")
"""Beginning of a formula: a cell or a function."""

PANDAS_INDEX = re.compile(r"Unnamed: \d+(\.\d+)?(_level_\d+)?")
"""Names that pandas gives to a column without a name when it writes the table again."""


@dataclass(frozen=True)
class TextTable:
    """A table whose first row names its columns.

    Attributes:
        columns: names of the columns, all different. A column without a name that holds more than row numbers is called
            ``column 3`` or so.
        rows: values by column, without spaces around them; all rows have all columns.
        dialect: delimiter and encoding in words; empty for commas and UTF-8.
        notes: a sentence for each column that was left out.
    """

    columns: list[str]
    rows: list[dict[str, str]]
    dialect: str = ""
    notes: tuple[str, ...] = ()


def read_text_table(path: Path, sample: bool = False) -> TextTable:
    """Read a table in any dialect.

    Encodings: UTF-8, UTF-16 and UTF-32, with or without a byte order mark, or Windows-1252. Only its letters tell
    Windows-1252 from other old encodings, so the dialect then quotes a word. Delimiters: comma, semicolon, tab, bar.
    These are ignored: a line ``sep=;`` as Excel writes it, empty lines, an index as pandas and R write it, and columns
    without name and values. A cell ``="001"``, as spreadsheets keep leading zeros, is the text 001.

    Args:
        path: file of the table.
        sample: read the first rows only, enough to tell what kind of table it is.

    Raises:
        DataError: when it is not text, or its encoding, its delimiter or the columns of its values are not clear, or
            cells hold formulas. The message continues a sentence that begins with the file's name.
    """
    text, encoding = decode(path.read_bytes())
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    delimiter = _delimiter_of_first_line(text)
    if delimiter is not None:
        text = text.partition("\n")[2]
    beginning = _beginning(text)
    delimiter = delimiter or _choose_delimiter(beginning)
    lines = _split(beginning, delimiter) if sample else _split(text, delimiter, strict=True)
    dialect = " and ".join(([DELIMITERS[delimiter]] if delimiter != "," else []) + ([encoding] if encoding else []))
    if not lines:
        return TextTable([], [], dialect)
    header, rows = _fit_header(lines)
    return _name_columns(header, rows, dialect)


def decode(data: bytes) -> tuple[str, str]:
    """Text of a file, and the name of its encoding; empty for UTF-8.

    Raises:
        DataError: when it is not text, or its encoding is not clear. The message continues a sentence that begins with
            the file's name.
    """
    encoding = next((name for mark, name in BYTE_ORDER_MARKS if data.startswith(mark)), None) or _without_mark(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8":
            raise DataError(f"is not text in {encoding.upper()}; save it again as CSV in UTF-8.") from None
        return _decode_windows(data)
    if CONTROL.search(text):
        raise DataError("is not text; save it again as CSV in UTF-8.")
    return text, "" if encoding.startswith("utf-8") else encoding.upper()


def _without_mark(data: bytes) -> str:
    """Guess UTF-16 without a mark: most of its second bytes are 0. UTF-8 has no such byte."""
    zeros = data[0:2000:2].count(0), data[1:2000:2].count(0)
    if max(zeros) <= len(data[:2000]) // 5:
        return "utf-8"
    return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"


def _decode_windows(data: bytes) -> tuple[str, str]:
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        text = None
    if text is not None and CONTROL.search(text):
        raise DataError("is not text; save it again as CSV in UTF-8.")
    if text is None or NOT_WESTERN.search(text):
        raise DataError("is not in UTF-8, and its encoding can't be told for certain; save it again as CSV in UTF-8.")
    word = re.search(r"\S*[^\x00-\x7f]\S*", text)
    return text, f"Windows-1252 (it reads: {word[0].strip(',;|')[:30]})" if word else "Windows-1252"


def _beginning(text: str) -> str:
    """The first lines, about :data:`SAMPLE_LETTERS` letters; at least one line."""
    if len(text) <= SAMPLE_LETTERS:
        return text
    end = max(text.rfind("\n", 0, SAMPLE_LETTERS), text.find("\n"))
    return text[: end + 1] if end >= 0 else text


def _split(text: str, delimiter: str, strict: bool = False) -> list[tuple[int, list[str]]]:
    """Rows that are not empty, each with the number of its last line."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=strict)
    try:
        lines = [(reader.line_num, [_cell(text) for text in line]) for line in reader if any(map(str.strip, line))]
    except csv.Error as error:
        raise DataError(f"can't be read as a table (line {reader.line_num}: {error}); save it again as CSV.") from error
    formulas = [(number, cell) for number, line in lines for cell in line if FORMULA.match(cell)]
    if formulas and strict:
        number, cell = formulas[0]
        raise DataError(
            f"has {len(formulas)} formulas in place of their values, such as {cell[:60]} in line {number}; save it "
            "again as CSV from the program that computes them."
        )
    return lines


def _cell(text: str) -> str:
    """Content of a cell, without spaces around it and without the sign that a spreadsheet needs for a text."""
    text = text.strip()
    quoted = QUOTED_TEXT.fullmatch(text)
    return quoted[1].replace('""', '"').strip() if quoted else text


def _delimiter_of_first_line(text: str) -> str | None:
    told = re.match(r'"?sep=(.)"?[,;\t ]*(?:\n|$)', text, re.IGNORECASE)
    return told[1] if told and told[1] in DELIMITERS else None


def _choose_delimiter(text: str) -> str:
    """The delimiter with which most rows have as many values as the header; of several, the one with most values.

    Raises:
        DataError: when two delimiters do equally well.
    """
    scores: dict[str, tuple[float, int]] = {}
    for delimiter in DELIMITERS:
        widths = [len(line) for _, line in _split(text, delimiter)]
        if widths and widths[0] > 1:
            # R names one column less than it writes. A delimiter at the end of each row adds an empty column.
            fitting = sum(width in (widths[0], widths[0] + 1) for width in widths[1:])
            scores[delimiter] = round(fitting / max(1, len(widths) - 1), 1), widths[0]
    if not scores:
        return ","
    best = [delimiter for delimiter, score in scores.items() if score == max(scores.values())]
    if len(best) > 1:
        first = next(line for line in text.split("\n") if line.strip())
        raise DataError(
            f"can be read with {' or '.join(DELIMITERS[delimiter] for delimiter in best)} between its values, such as "
            f"those of its first line {first[:60]!r}; put values that hold one of them into quotes, or add a first "
            "line such as sep=;"
        )
    return best[0]


def _fit_header(lines: Sequence[tuple[int, list[str]]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of equal length.

    Raises:
        DataError: when rows have more values than there are columns.
    """
    (_, header), rows = lines[0], list(lines[1:])
    longer = [(number, row) for number, row in rows if len(row) > len(header)]
    fits_r = len(header) > 1 and all(len(row) == len(header) + 1 and row[-1] for _, row in rows)
    if rows and fits_r:
        # R writes a column of row names, and gives it no name.
        header = ["", *header]
        longer = []
    if wrong := [str(number) for number, row in longer if any(row[len(header) :])]:
        raise DataError(
            f"has {len(wrong)} rows with more values than columns (lines {first_names(wrong)}); its first line must "
            "name the columns, and values that hold the delimiter must be in quotes."
        )
    return header, [row[: len(header)] + [""] * (len(header) - len(row)) for _, row in rows]


def _name_columns(header: Sequence[str], rows: Sequence[Sequence[str]], dialect: str) -> TextTable:
    names: list[str] = []
    kept: list[int] = []
    notes: list[str] = []
    # A letter with an accent may be written as one sign or as two, and classes are named as in other lists.
    for position, name in enumerate(unicodedata.normalize("NFC", text) for text in header):
        if not name or PANDAS_INDEX.fullmatch(name):
            values = [row[position] for row in rows]
            if not any(values):
                continue
            if len(set(values)) == len(values) and all(map(WHOLE_NUMBER.fullmatch, values)):
                notes.append(f"column {position + 1}, which has no name, holds row numbers: left out")
                continue
            name = f"column {position + 1}"
        names.append(name)
        kept.append(position)
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"has columns with the same name ({first_names(repeated)}); rename or delete them.")
    table = [{name: row[position] for name, position in zip(names, kept, strict=True)} for row in rows]
    return TextTable(names, table, dialect, tuple(notes))
