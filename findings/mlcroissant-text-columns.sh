#!/bin/sh
# mlcroissant 1.1.1: a CSV column that the metadata declares as text is read as numbers first.
#
# Expected: a field of data type sc:Text over a CSV column gives the text of the cells.
# Seen: the type of the column is inferred before the declared one is applied.
#   Class names 007, 010          -> b'7', b'10'
#   the same with 1e2 among them  -> b'7.0', b'10.0', b'100.0'
#   Class names None, cat, NA     -> None, b'cat', None
#   so classes are renamed, and 007 and 7 become one class. There is no warning.
#   The same columns in Parquet keep their text.
# Instead: describe label columns in Parquet, or begin every class name with a letter and use
# none of the words that pandas reads as missing.
set -eu
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet --disable-pip-version-check mlcroissant==1.1.1 pandas==3.1.1 pyarrow==26.0.1
cd "$room"
"$room/venv/bin/python" -W ignore - <<'PYTHON'
import hashlib
import json
import logging
import pathlib
import sys

import mlcroissant as mlc
import pyarrow as pa
import pyarrow.parquet as pq

logging.disable(logging.WARNING)
COLUMNS = {
    "whole": ["007", "010", "012"],
    "power": ["007", "010", "1e2"],
    "words": ["None", "cat", "NA"],
}
rows = zip(*COLUMNS.values(), strict=True)
pathlib.Path("labels.csv").write_text(
    "\n".join(",".join(row) for row in [tuple(COLUMNS), *rows]) + "\n"
)
pq.write_table(pa.table(COLUMNS), "labels.parquet")


def read(file: str, encoding: str) -> dict[str, list[bytes | None]]:
    """The columns of the file as its records give them."""
    fields = [
        mlc.Field(
            id=f"rows/{name}",
            name=name,
            data_types=[mlc.DataType.TEXT],
            source=mlc.Source(file_object=file, extract=mlc.Extract(column=name)),
        )
        for name in COLUMNS
    ]
    metadata = mlc.Metadata(
        name="labels",
        url="https://example.org/labels",
        distribution=[
            mlc.FileObject(
                id=file,
                name=file,
                content_url=file,
                encoding_formats=[encoding],
                sha256=hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest(),
            )
        ],
        record_sets=[mlc.RecordSet(id="rows", name="rows", fields=fields)],
    )
    path = pathlib.Path(f"{file}.json")
    path.write_text(json.dumps(metadata.to_json(), default=str))
    records = list(mlc.Dataset(path).records("rows"))
    return {name: [record[f"rows/{name}"] for record in records] for name in COLUMNS}


csv = read("labels.csv", "text/csv")
parquet = read("labels.parquet", "application/x-parquet")
print("csv    ", csv)
print("parquet", parquet)
unchanged = csv == {
    "whole": [b"7", b"10", b"12"],
    "power": [b"7.0", b"10.0", b"100.0"],
    "words": [None, b"cat", None],
} and parquet == {name: [cell.encode() for cell in cells] for name, cells in COLUMNS.items()}
sys.exit(not unchanged)
PYTHON
