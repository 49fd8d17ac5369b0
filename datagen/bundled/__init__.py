"""The files that ship with datagen: the model `mnist`, its judge and index, and `sample:mnist`."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent

MODEL = _HERE / "mnist.safetensors"
JUDGE = _HERE / "mnist-judge.safetensors"
INDEX = _HERE / "mnist-index.safetensors"
SAMPLE = _HERE / "sample-mnist.parquet"
# Of MNIST, from which all of them were made.
LICENSE = "cc-by-sa-3.0"
