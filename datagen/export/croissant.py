"""Croissant 1.1 metadata of an export, which catalogues of datasets read.

The format is https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html: files with their
hashes, sets of files, and the records that can be read from them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datagen.export.info import ExportInfo
from datagen.export.licences import licence_url
from datagen.export.measuring import Entry
from datagen.export.protocol import Format, RecordField, Records

NAME = "croissant.json"
_OWN_TERMS = (
    "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field",
    "fileProperty", "fileObject", "fileSet", "format", "includes", "isArray", "isLiveDataset",
    "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex", "repeated",
    "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "prov": "http://www.w3.org/ns/prov#",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
} | {term: f"cr:{term}" for term in _OWN_TERMS}
_ENCODINGS = {
    ".parquet": "application/x-parquet",
    ".tar": "application/x-tar",
    ".zip": "application/zip",
    ".npz": "application/zip",
    ".json": "application/json",
    ".txt": "text/plain",
}
_SPLIT_KINDS = {
    "train": "TrainingSplit",
    "validation": "ValidationSplit",
    "test": "TestSplit",
}
_TARGETS = {"label": "labels/label", "split": "splits/name"}


def croissant(layout: Format, info: ExportInfo, entries: Iterable[Entry]) -> str:
    """The metadata as JSON; `entries` are the files that are there so far."""
    files = [entry for entry in entries if not entry.path.endswith((".png", ".md", ".html"))]
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": _identifier(info.title),
        "description": f"{info.title}: {info.images_total:,} labelled images, written by datagen "
        f"as {layout.name}. Synthetic images are for training, not for measuring.",
        "license": "unknown" if info.licence is None else licence_url(info.licence),
        "url": f"urn:datagen:{info.jobs[0].job_id if info.jobs else info.dataset_digest}",
        "creator": {"@type": "sc:Organization", "name": "datagen"},
        "citeAs": f"{info.title}, written by datagen from "
        f"{', '.join(f'job {job.job_id}' for job in info.jobs) or 'real images'}.",
        "datePublished": info.created_at.date().isoformat(),
        "version": "1.0.0",
        **_provenance(info),
        "distribution": [
            *(_file(entry) for entry in files),
            *(_files(records) for records in layout.records),
        ],
        "recordSet": [
            _splits(info),
            _labels(info),
            *(_records(records) for records in layout.records),
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _provenance(info: ExportInfo) -> dict[str, Any]:
    """Which jobs made the images, and from which models and dataset."""
    made = any(any(counts) for counts in info.synthetic.values())
    found: dict[str, Any] = {"rai:hasSyntheticData": made}
    if info.jobs:
        found["prov:wasGeneratedBy"] = [
            {
                "@type": "prov:Activity",
                "@id": f"urn:datagen:job:{job.job_id}",
                "name": f"Job {job.job_id}: images by the model {job.model_name}, version "
                f"{job.model_version}, sampler {job.sampler}, seed {job.seed}",
                "prov:startedAtTime": job.created_at.isoformat(),
            }
            for job in info.jobs
        ]
    names = {
        f"urn:datagen:model:{job.model_digest}": f"model {job.model_name}, version "
        f"{job.model_version}"
        for job in info.jobs
    }
    if info.dataset is not None:
        names[f"urn:datagen:dataset:{info.dataset.digest}"] = (
            f"dataset {info.dataset.name}, version {info.dataset.version}"
        )
    if names:
        found["prov:wasDerivedFrom"] = [
            {"@type": "prov:Entity", "@id": one, "name": name} for one, name in names.items()
        ]
    return found


def _identifier(text: str) -> str:
    return "".join(char if char.isalnum() or char in "-_ ." else "-" for char in text)[:200]


def _file(entry: Entry) -> dict[str, Any]:
    ending = entry.path[entry.path.rfind(".") :] if "." in entry.path else ""
    return {
        "@type": "cr:FileObject",
        "@id": entry.path,
        "name": entry.path,
        "contentUrl": entry.path,
        "contentSize": f"{entry.bytes} B",
        "encodingFormat": _ENCODINGS.get(ending, "application/octet-stream"),
        "sha256": entry.sha256,
    }


def _files(records: Records) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"{records.name}-files",
        "name": f"{records.name}-files",
        "encodingFormat": records.encoding,
        "includes": records.includes,
    }


def _splits(info: ExportInfo) -> dict[str, Any]:
    kinds = {"name": "sc:Text", "url": "sc:URL", "images": "sc:Integer"}
    rows = [
        {
            "name": name,
            "url": f"http://mlcommons.org/croissant/{_SPLIT_KINDS[name]}",
            "images": int(counts.sum()),
        }
        for name, counts in info.counts.items()
    ]
    return _listed("splits", "cr:Split", kinds, rows)


def _labels(info: ExportInfo) -> dict[str, Any]:
    kinds = {"label": "sc:Integer", "name": "sc:Text"}
    rows = [{"label": label, "name": name} for label, name in enumerate(info.class_names)]
    return _listed("labels", "sc:Enumeration", kinds, rows)


def _listed(
    name: str, kind: str, kinds: Mapping[str, str], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Records that stand in the metadata themselves; their first field is the key."""
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "key": {"@id": f"{name}/{next(iter(kinds))}"},
        "dataType": kind,
        "field": [_typed(name, field, own) for field, own in kinds.items()],
        "data": [{f"{name}/{field}": value for field, value in row.items()} for row in rows],
    }


def _records(records: Records) -> dict[str, Any]:
    # mlcroissant's join puts what `references` compares in place of the column that all fields of
    # the files read: the path would become the split for each of them.
    paths = sum(extract.get("fileProperty") == "fullpath" for _, _, extract, _ in records.fields)
    fields = [
        _field(
            records.name,
            field,
            refers=field[0] in _TARGETS and not ("fileProperty" in field[2] and paths > 1),
        )
        for field in records.fields
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": records.name,
        "name": records.name,
        "description": records.description,
        "field": fields,
    }


def _field(where: str, field: RecordField, *, refers: bool) -> dict[str, Any]:
    name, kind, extract, transform = field
    source: dict[str, Any] = {"fileSet": {"@id": f"{where}-files"}, "extract": extract}
    if transform:
        source["transform"] = transform
    described = _typed(where, name, kind) | {"source": source}
    if refers:
        described["references"] = {"field": {"@id": _TARGETS[name]}}
    return described


def _typed(where: str, name: str, kind: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{where}/{name}",
        "name": f"{where}/{name}",
        "dataType": [kind, "cr:Label"] if name == "label" and where != "labels" else kind,
    }
