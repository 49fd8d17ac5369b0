"""Make the bundled model and its judge with the project's own commands.

    python -m scripts.make_bundled MNIST_DIR OUT_DIR [-- options of `datagen train`]

MNIST_DIR holds the four IDX files. The model is trained on the 60,000 training images; the 10,000
test images only measure it. What comes out is copied to OUT_DIR as `mnist.safetensors`,
`mnist-judge.safetensors` and `mnist-index.safetensors`; the metrics stand in their headers.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.commands import datagen

SMALL_ENOUGH = 8_000_000


def main() -> None:
    """Register, train, copy, and print the metrics."""
    source, out, options = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    with tempfile.TemporaryDirectory(prefix="datagen-bundled-") as folder:
        home = Path(folder)
        datagen(home, "dataset", "add", "mnist", str(source))
        extra = [option for option in options if option != "--"]
        model = datagen(home, "train", "mnist", "--dataset", "mnist", *extra)
        weights = home / "storage" / "models"
        files = {
            "mnist.safetensors": weights / f"{model['digest']}.safetensors",
            "mnist-judge.safetensors": weights / f"{model['judge_digest']}.safetensors",
            "mnist-index.safetensors": weights / f"{model['index_digest']}.safetensors",
        }
        size = sum(path.stat().st_size for path in files.values())
        if size > SMALL_ENOUGH:
            sys.exit(f"The weights take {size:,} bytes; they may take {SMALL_ENOUGH:,} together.")
        for name, path in files.items():
            shutil.copyfile(path, out / name)
    print(json.dumps(model["metrics"], indent=2))


if __name__ == "__main__":
    main()
