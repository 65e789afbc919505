# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Meaning of the columns of a list, by the names that data sets give them, and values that stand for "not known"."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

__all__ = [
    "GROUP_COLUMNS",
    "IMAGE_COLUMNS",
    "LABEL_COLUMNS",
    "MAYBE_MISSING",
    "PART_COLUMNS",
    "PERSON_COLUMNS",
    "as_number",
    "columns_named",
    "group_value",
    "is_missing",
    "label_value",
    "same_classes",
]

IMAGE_COLUMNS = (
    *("image", "images", "image_id", "image_name", "image_file", "image_filename", "image_path", "image_index"),
    *("img", "img_id", "img_name", "img_file", "img_path", "imageid"),
    *("file", "filename", "file_path", "path", "picture", "photo", "id_code", "isic_id", "dicom_id"),
)
"""Names of the column of images: in order those of ISIC and NIH ChestX-ray14, PAD-UFES-20, and others."""

LABEL_COLUMNS = (
    *("label", "labels", "class", "class_name", "category", "target"),
    *("diagnosis", "diagnostic", "dx", "finding", "finding_label", "finding_labels", "grade", "level"),
)
"""Names of the column of classes: general ones, then those of APTOS, PAD-UFES-20, HAM10000, NIH and EyePACS."""

GROUP_COLUMNS = (
    *("group", "group_id", "patient", "patient_id", "subject", "subject_id", "participant_id"),
    *("participant", "patient_name", "patient_number", "patient_no", "patient_nr", "patient_code", "patient_uid"),
    *("subject_name", "subject_number", "subject_no", "person", "person_id", "pid", "mrn", "case_id"),
    *("lesion", "lesion_id", "lesion_number", "lesion_no"),
)
"""Names of the columns of groups that a split must keep together, the larger first: a patient has several lesions."""

PART_COLUMNS = ("part", "split", "subset", "set", "partition")
"""Names of the column of parts. A name after the first two is used only if all its values are parts."""

PERSON_COLUMNS = ("sex", "gender", "male", "female", "is_male", "is_female", "sex_male", "sex_female", "age")
"""Names of columns about the person. Beside columns of findings they are none, though they may hold 0 and 1."""

MISSING = frozenset(
    (
        *("", "-1", "?", ".", "#n/a", "<na>", "n.a.", "n/a", "na", "nan", "nat", "none", "null"),
        *("missing", "not available", "unlabeled", "unlabelled"),
    )
)
"""Texts that stand for a value that is not known, in lower case."""

MAYBE_MISSING = frozenset(("-", "--", "-9", "-99", "-999", "-9999", "99", "999", "9999", "unknown", "unspecified"))
"""Texts that stand for a label that is not known in some lists, and for a class in others, in lower case."""

MISSING_GROUPS = MISSING | {"anonymous", "anonymized", "anonymised", "unknown"}
"""Texts that stand for an unknown group. Patients without a name are not all one patient."""

DECIMAL_COMMA = re.compile(r"^([+-]?\d+),(\d+)$")

LIST_OF_ONE = re.compile(r"""\[\s*(?:'([^',]*)'|"([^",]*)"|([^\s,'"\[\]]+))\s*\]""")
"""A list with one label, as Python writes it into a table."""

WHOLE_NUMBER = re.compile(r"(-?\d+)\.0*")


def columns_named(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Find the columns that have one of the names, in the names' order. Case, spaces and signs do not matter.

    Example:
        >>> columns_named(["Image Index", "Finding Labels", "image"], IMAGE_COLUMNS)
        ['image', 'Image Index']
    """
    order = {_key(name): number for number, name in reversed(list(enumerate(names)))}
    return sorted((column for column in columns if _key(column) in order), key=lambda column: order[_key(column)])


def _key(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def is_missing(value: str) -> bool:
    """True if a label stands for "not known".

    Example:
        >>> is_missing("NaN"), is_missing("-1.0"), is_missing("nevus")
        (True, True, False)
    """
    return label_value(value).casefold() in MISSING


def label_value(value: str) -> str:
    """A label in the form that is compared: whole numbers lose the decimals that pandas adds when a value is missing.

    Example:
        >>> label_value("1.0"), label_value("01"), label_value("grade 1.0"), label_value("['nevus']")
        ('1', '01', 'grade 1.0', 'nevus')
    """
    # Letters in composed form, as those of folders.
    text = unicodedata.normalize("NFC", value.strip())
    if found := LIST_OF_ONE.fullmatch(text):
        text = next(part for part in found.groups() if part is not None).strip()
    number = WHOLE_NUMBER.fullmatch(text)
    return number[1] if number else text


def group_value(value: str) -> str:
    """A patient or lesion in the form that is compared; empty if it is not known.

    Example:
        >>> group_value("7.0"), group_value("N/A"), group_value("unknown")
        ('7', '', '')
    """
    text = label_value(value)
    return "" if text.casefold() in MISSING_GROUPS else text


def as_number(text: str) -> float:
    """Number in a text (true is 1, false is 0; 1,5 is 1.5); minus infinity if the text is not a number."""
    text = DECIMAL_COMMA.sub(r"\1.\2", text.strip())
    try:
        return float({"true": "1", "false": "0"}.get(text.lower(), text))
    except ValueError:
        return float("-inf")


def same_classes(rows: Sequence[Mapping[str, str]], first: str, second: str) -> bool:
    """True if two columns divide the images into the same classes, by whatever names.

    Example:
        >>> same_classes([{"dx": "nv", "label": "0"}, {"dx": "mel", "label": "1"}], "dx", "label")
        True
    """
    pairs = {(row[first], row[second]) for row in rows}
    return len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})
