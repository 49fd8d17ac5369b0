from __future__ import annotations

import json
import struct

import pytest
from pydantic import ValidationError

from datagen.errors import InvalidFile
from datagen.model.header import MAX_HEADER_BYTES, METADATA_KEY, CheckpointHeader, read_header

OURS = {
    "kind": "cvae",
    "config": {"image_shape": [1, 28, 28], "class_count": 2},
    "class_names": ["zero", "eins"],
    "image_shape": [1, 28, 28],
    "training_digest": "ab" * 32,
    "metrics": {"negative_elbo": 94.5},
    "datagen_version": "0.1.0",
}


def framed(text, length=None):
    text = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(text) if length is None else length) + text


def with_metadata(metadata):
    return framed(json.dumps({"__metadata__": metadata}))


def ours(**changes):
    return with_metadata({METADATA_KEY: json.dumps(OURS | changes)})


def test_what_was_written_is_read_back(tmp_path):
    header = CheckpointHeader.model_validate(OURS)
    path = tmp_path / "model.safetensors"
    path.write_bytes(with_metadata(header.to_metadata()) + bytes(100))

    assert read_header(path) == header


def test_same_header_gives_the_same_text_whatever_the_order_of_its_fields():
    backwards = dict(reversed(OURS.items()))

    assert (
        CheckpointHeader.model_validate(OURS).to_metadata()
        == CheckpointHeader.model_validate(backwards).to_metadata()
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01\x02",
        struct.pack("<Q", 0),
        framed("{}", length=500),
        framed("{}", length=2**63),
        framed("x" * (MAX_HEADER_BYTES + 1)),
        framed("not json"),
        framed(b"\xff\xfe\xfd"),
        framed("[" * 100_000),
        framed("[]"),
        framed("{}"),
        framed('{"__metadata__": 3}'),
        with_metadata({}),
        with_metadata({METADATA_KEY: 3}),
        with_metadata({METADATA_KEY: "not json"}),
        with_metadata({METADATA_KEY: "[]"}),
        ours(kind="gan"),
        ours(class_names=[]),
        ours(image_shape=[28, 28]),
        ours(format_version=2),
        ours()[:-5],
        # A pickle of protocol 4, and a zip archive as torch.save writes it.
        b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
        b"PK\x03\x04" + bytes(200),
        b"\x89PNG\r\n\x1a\n" + bytes(200),
    ],
    ids=range(24),
)
def test_what_is_no_checkpoint_is_refused_by_name(tmp_path, data):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(data)

    with pytest.raises(InvalidFile, match=r"odd\.safetensors is not a checkpoint of datagen"):
        read_header(path)


@pytest.mark.parametrize("name", ["missing.safetensors", "."])
def test_what_is_no_file_is_refused(tmp_path, name):
    with pytest.raises(InvalidFile, match="cannot be read"):
        read_header(tmp_path / name)


def test_headers_are_values(tmp_path):
    header = CheckpointHeader.model_validate(OURS)

    with pytest.raises(ValidationError):
        header.kind = "judge"
