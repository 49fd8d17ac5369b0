"""Licences as catalogues know them: SPDX identifiers, where the text that was given is one."""

from __future__ import annotations

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression


def spdx_of(licence: str) -> str | None:
    """The SPDX expression that a licence's text is, in its canonical case; None where it is none.

    Known beside the identifiers: the same with spaces, as in CC BY 4.0.
    """
    for text in (licence, licence.strip().replace(" ", "-")):
        try:
            return str(canonicalize_license_expression(text))
        except InvalidLicenseExpression:
            continue
    return None


def licence_url(licence: str) -> str:
    """The page of a licence that SPDX lists; other texts as they are."""
    spdx = spdx_of(licence)
    if spdx is None or " " in spdx or spdx.startswith("LicenseRef-"):
        return spdx or licence
    return f"https://spdx.org/licenses/{spdx.removesuffix('+')}.html"


def card_licence(licence: str | None) -> dict[str, str]:
    """The fields of a dataset card: hubs know SPDX's identifiers in lower case, and `other`."""
    if licence is None:
        return {"license": "unknown"}
    spdx = spdx_of(licence)
    if spdx is None or " " in spdx or spdx.startswith("LicenseRef-"):
        return {"license": "other", "license_name": spdx or licence}
    return {"license": spdx.lower()}
