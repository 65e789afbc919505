# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Text tables as programs write them: every dialect gives the same values, and an ambiguous table is an error."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from monai_fgssl.data.layouts.dialects import NOT_WESTERN, read_text_table
from monai_fgssl.utils.errors import DataError

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252")

# Without the letters that are spaces to Python or to csv, which are not kept around values.
VALUES = st.text(st.sampled_from("abcXYZ019äéß_-./,;|\t'\"() "), max_size=8).map(str.strip)


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read_error(path: Path) -> str:
    with pytest.raises(DataError) as error:
        read_text_table(path)
    return str(error.value)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=12),
    st.sampled_from(",;\t|"),
    st.sampled_from(ENCODINGS),
    st.sampled_from(("\n", "\r\n", "\r")),
    st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
    st.booleans(),
    st.booleans(),
)
def test_same_values_in_every_dialect(
    rows: list[tuple[str, str, str]],
    delimiter: str,
    encoding: str,
    line_end: str,
    quoting: int,
    has_index: bool,
    says_delimiter: bool,
) -> None:
    rows = [(f"{number}.png", *row[1:]) for number, row in enumerate(rows)]
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    writer.writerow([""] * has_index + ["image", "first note", "second"])
    writer.writerows([str(number)] * has_index + list(row) for number, row in enumerate(rows))
    text = f"sep={delimiter}{line_end}" * says_delimiter + buffer.getvalue()
    # Old text with signs and letters in the order of no Western language can't be told from other encodings.
    assume(not any(cell.startswith("=") for row in rows for cell in row))
    assume(encoding != "cp1252" or not NOT_WESTERN.search(text))
    with tempfile.TemporaryDirectory() as folder:
        table = read_text_table(write(Path(folder), text.encode(encoding)))
    assert table.columns == ["image", "first note", "second"]
    assert [tuple(row.values()) for row in table.rows] == rows


@pytest.mark.parametrize(
    ("content", "dialect"),
    [
        (b"image,label\na,b\n", ""),
        (b"image;label\na;1,5\nb;2,5\n", "semicolons"),
        ("image\tlabel\na\tb\n".encode("utf-16"), "tabs and UTF-16"),
        ("image;label\na;Nävus\n".encode("cp1252"), "semicolons and Windows-1252 (it reads: a;Nävus)"),
    ],
)
def test_the_dialect_is_told(content: bytes, dialect: str, tmp_path: Path) -> None:
    assert read_text_table(write(tmp_path, content)).dialect == dialect


def test_encodings_that_may_be_others_are_refused(tmp_path: Path) -> None:
    for text, encoding in (("Меланома", "cp1251"), ("黒色腫", "shift_jis"), ("黑色素瘤", "gbk"), ("Nävus", "cp850")):
        message = read_error(write(tmp_path, f"image,label\na.png,{text}\n".encode(encoding)))
        assert message.endswith("its encoding can't be told for certain; save it again as CSV in UTF-8.")
    for content in (b"PK\x03\x04\x00\x00\xff", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xfea\0b"):
        assert "save it again as CSV" in read_error(write(tmp_path, content))


def test_two_possible_delimiters_are_refused(tmp_path: Path) -> None:
    content = "image;a,label\n1.png;x,nevus\n2.png;y,nevus\n"
    message = read_error(write(tmp_path, content))
    assert "can be read with commas or semicolons" in message
    assert "its first line 'image;a,label'" in message
    table = read_text_table(write(tmp_path, f"sep=;\n{content}"))
    assert table.columns == ["image", "a,label"]


def test_texts_of_spreadsheets_are_their_content(tmp_path: Path) -> None:
    content = 'image,label\n="001",x\n"=""0,2""",="a ""b"""\n=a,=\n'
    rows = read_text_table(write(tmp_path, content)).rows
    assert [tuple(row.values()) for row in rows] == [("001", "x"), ("0,2", 'a "b"'), ("=a", "=")]


@pytest.mark.parametrize("cell", ["=B3", "=$B$3+1", "=-B3", '"=IF(B3=1,2,3)"', '=CONCAT.X("a")'])
def test_formulas_are_no_values(cell: str, tmp_path: Path) -> None:
    """Each would be a class or a patient of its own."""
    message = read_error(write(tmp_path, f"image,label\na.png,x\nb.png,{cell}\n"))
    assert "has 1 formulas in place of their values, such as =" in message
    assert "in line 3" in message


def test_names_that_are_no_formulas_are_taken(tmp_path: Path) -> None:
    names = ["=a1.png", "=1+1", "=ABCD1", "==", "=x"]
    rows = read_text_table(write(tmp_path, "image\n" + "\n".join(names) + "\n")).rows
    assert [row["image"] for row in rows] == names


def test_index_columns_are_left_out(tmp_path: Path) -> None:
    pandas = ",image,label\n3,a.png,n\n7,b.png,m\n"
    again = "Unnamed: 0.1,Unnamed: 0,image,label\n0,3,a.png,n\n1,7,b.png,m\n"
    r = "image\tlabel\n1\ta.png\tn\n2\tb.png\tm\n"
    tail = "image,label,\na.png,n,\nb.png,m,\n"
    longer = "image,label\na.png,n,\nb.png,m,\n"
    for content in (pandas, again, r, tail, longer):
        table = read_text_table(write(tmp_path, content))
        assert table.rows == [{"image": "a.png", "label": "n"}, {"image": "b.png", "label": "m"}]
    assert read_text_table(write(tmp_path, pandas)).notes == (
        "column 1, which has no name, holds row numbers: left out",
    )
    # What is no number is kept.
    assert read_text_table(write(tmp_path, ",label\na.png,n\nb.png,m\n")).columns == ["column 1", "label"]


def test_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    message = read_error(write(tmp_path, "image,label\na.png,nevus, benign\nb.png,nevus\n"))
    assert message.startswith("has 1 rows with more values than columns (lines 2)")
    assert "can't be read as a table (line 3" in read_error(write(tmp_path, 'image,label\na.png,"n\nb.png,m\n'))
    assert "columns with the same name (label)" in read_error(write(tmp_path, "image,label,label\na.png,n,m\n"))


def test_a_sample_is_the_beginning(tmp_path: Path) -> None:
    path = write(tmp_path, "image,label\n" + "".join(f"{number}.png,n\n" for number in range(40_000)))
    rows = read_text_table(path, sample=True).rows
    assert 1000 < len(rows) < 40_000
    assert rows == read_text_table(path).rows[: len(rows)]
