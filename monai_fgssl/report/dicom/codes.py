# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Coded terms for results in DICOM: codes of SNOMED CT and LOINC for the classes of known data sets.

No code is made up. A concept without a verified standard code gets a code of our own scheme. DICOM PS3.3, section 8.2
allows this with designators that begin with 99, and :func:`coding_scheme` names the owner in each file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydicom.sr.coding import Code

if TYPE_CHECKING:
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

__all__ = [
    "APTOS2019_CODES",
    "ISIC2017_CODES",
    "ISIC2018_CODES",
    "POSSIBLE_CLASS",
    "REFER",
    "SCHEME",
    "STAGES_AGREE",
    "THRESHOLD",
    "UNCERTAINTY_CODES",
    "UNDECIDED",
    "UNLIKE_IMAGE",
    "class_codes",
    "coding_scheme",
    "private_code",
    "uncertainty_code",
]

SCHEME = "99FGSSL"
"""Designator of our own scheme, for names of classes and measures without a standard code."""

# Two sources each, unless said otherwise. SNOMED CT identifiers end in a check digit, which the tests compute.
# HPO: Human Phenotype Ontology, release 2025-01-16, cross references SNOMEDCT_US.
MELANOMA = Code("372244006", "SCT", "Malignant melanoma")
"""HPO HP:0012056 (cutaneous melanoma); "Malignant melanoma (disorder)" in published FHIR value sets."""
MELANOCYTIC_NEVUS = Code("400096001", "SCT", "Melanocytic nevus")
"""SNOMED CT browser of tx.fhir.org, edition of 2023-04: "Melanocytic nevus (disorder)", current; HPO HP:0000995."""
BASAL_CELL_CARCINOMA = Code("254701007", "SCT", "Basal cell carcinoma of skin")
"""EFO, exact match of MONDO:0005341 (skin basal cell carcinoma); HPO HP:0002671."""
DERMATOFIBROMA = Code("427186000", "SCT", "Dermatofibroma")
"""VisualDx, diagnosis "dermatofibroma" (SNOMED CT code given next to ICD-10-CM D23.9); this one source only."""
SEBORRHEIC_KERATOSIS = Code("394726009", "SCT", "Seborrheic keratosis")
"""NCBI MedGen C0022603; OHDSI vocabulary, standard concept for ICD-10 L82."""
MILD_NPDR = Code("312903003", "SCT", "Mild nonproliferative retinopathy due to diabetes mellitus")
MODERATE_NPDR = Code("312904009", "SCT", "Moderate nonproliferative retinopathy due to diabetes mellitus")
SEVERE_NPDR = Code("312905005", "SCT", "Severe nonproliferative retinopathy due to diabetes mellitus")
"""Source of all three grades: value set 2.16.840.1.113883.3.526.3.1283 (CMS, level of severity of retinopathy
findings); with these names in published code lists of diabetes."""
PROLIFERATIVE_DR = Code("59276001", "SCT", "Proliferative retinopathy due to diabetes mellitus")
"""NCBI MedGen C0154830; the value set named above."""
NO_RETINOPATHY = Code("LA18643-9", "LN", "No apparent retinopathy")
"""LOINC 2.80, answer list LL2117-1, the same five grades as APTOS; a SNOMED CT code was not found."""


def private_code(value: str, meaning: str | None = None) -> Code:
    """Make a code of our own scheme.

    Args:
        value: code value, unique in the scheme.
        meaning: meaning for people, of which the first 64 characters are kept (DICOM PS3.3, table 8.8-1); None: the
            value.
    """
    return Code(value, SCHEME, (meaning or value)[:64])


ISIC2018_CODES: Mapping[str, Code] = {
    "MEL": MELANOMA,
    "NV": MELANOCYTIC_NEVUS,
    "BCC": BASAL_CELL_CARCINOMA,
    # These classes are groups of diagnoses. A code of one diagnosis would be more precise than the network.
    "AKIEC": private_code("AKIEC", "Actinic keratosis or Bowen's disease"),
    "BKL": private_code("BKL", "Seborrheic keratosis, solar lentigo or lichenoid keratosis"),
    "DF": DERMATOFIBROMA,
    "VASC": private_code("VASC", "Vascular lesion of the skin"),
}
"""ISIC 2018 Task 3, by the official abbreviations; groups as in Tschandl et al., "The HAM10000 dataset", 2018."""

ISIC2017_CODES: Mapping[str, Code] = {
    "melanoma": MELANOMA,
    "seborrheic_keratosis": SEBORRHEIC_KERATOSIS,
    "nevus": MELANOCYTIC_NEVUS,
}
"""ISIC 2017 Part 3, by the columns of its ground truth; an image that is neither of the two is a nevus."""

APTOS2019_CODES: Mapping[str, Code] = {
    "No DR": NO_RETINOPATHY,
    "Mild": MILD_NPDR,
    "Moderate": MODERATE_NPDR,
    "Severe": SEVERE_NPDR,
    "Proliferative DR": PROLIFERATIVE_DR,
}
"""APTOS 2019, grades 0 to 4 by their official names, those of the International Clinical Diabetic Retinopathy scale."""

UNCERTAINTY_CODES: Mapping[str, Code] = {
    "entropy": private_code("ENTROPY", "Entropy of the prediction, 0 certain to 1 undecided"),
    "stage_disagreement": private_code("STAGES_DISAGREE", "Disagreement of the stages, 0 none to 1 full"),
    "orientation_disagreement": private_code("TURNS_DISAGREE", "Disagreement of flips and turns, 0 none to 1 full"),
}

STAGES_AGREE = private_code("STAGES_AGREE", "All stages predict the finding")
POSSIBLE_CLASS = private_code("POSSIBLE_CLASS", "Class in the prediction set")
UNLIKE_IMAGE = private_code("UNLIKE_IMAGE", "Image is unlike the training images")
REFER = private_code("REFER", "A person should decide")
UNDECIDED = private_code("UNDECIDED", "The finding may be there or not")
THRESHOLD = private_code("THRESHOLD", "Probability from which the finding is predicted")


def class_codes(class_names: Sequence[str]) -> list[Code]:
    """Choose the codes of a model's classes.

    The data set is recognized by all class names together, since "Mild" alone could be a grade of anything.

    Args:
        class_names: names in the order of the scores; case does not matter, and a space is taken for an underscore.

    Returns:
        One code for each class. Names that are not exactly those of a known data set get codes of our own scheme.

    Example:
        >>> class_codes(["melanoma", "seborrheic keratosis", "nevus"])[0].value
        '372244006'
        >>> class_codes(["round", "oval"])[0]
        Code(value='round', scheme_designator='99FGSSL', meaning='round', scheme_version=None)
    """
    names = [_normalize(name) for name in class_names]
    for table in (ISIC2018_CODES, ISIC2017_CODES, APTOS2019_CODES):
        codes = {_normalize(name): code for name, code in table.items()}
        if set(names) == set(codes):
            return [codes[name] for name in names]
    return [private_code(name) for name in class_names]


def uncertainty_code(name: str) -> Code:
    """Code of a measure of uncertainty, from our own scheme, since DICOM has no codes for these measures.

    Args:
        name: as in the results of inference, e.g. ``"entropy"``; an unknown name is used as the meaning too.
    """
    return UNCERTAINTY_CODES.get(name) or private_code(name)


def coding_scheme() -> CodingSchemeIdentificationItem:
    """Identification of our own coding scheme; DICOM PS3.3, section C.12.1.1.2."""
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return CodingSchemeIdentificationItem(
        SCHEME, name="Names of classes and measures of monai-fgssl", responsible_organization="monai-fgssl contributors"
    )


def _normalize(name: str) -> str:
    return name.casefold().replace("_", " ")
