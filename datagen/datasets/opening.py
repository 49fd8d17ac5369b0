"""What a folder holds, and its images."""

from __future__ import annotations

from pathlib import Path

from datagen.datasets.idx import idx_files, read_mnist
from datagen.datasets.imagefolder import SPLITS, find_images, has_pictures, read_tree
from datagen.errors import InvalidFile
from datagen.images import LabelledImages

WANTED = (
    "MNIST's IDX files (train-images-idx3-ubyte and train-labels-idx1-ubyte, gzipped or not), "
    "nor folders of images named by their class"
)


def dataset_root(folder: Path) -> Path:
    """The folder in which the dataset begins: where there is only one folder, it may be in there.

    So `pets/cat/1.png` and `MNIST/raw/train-images-idx3-ubyte` are found from above.
    """
    inner = [path for path in folder.iterdir() if not path.name.startswith(".")]
    if len(inner) != 1 or not inner[0].is_dir():
        return folder
    only = inner[0]
    if only.name.lower() in SPLITS or has_pictures(only):
        return folder
    root = dataset_root(only)
    return root if idx_files(root) or find_images(root) else folder


def open_dataset(folder: Path) -> dict[str, LabelledImages]:
    """The splits of whatever dataset a folder holds: IDX files, or class folders with images.

    Raises:
        InvalidFile: neither, or files that cannot be read or do not fit together.
    """
    root = dataset_root(folder)
    if idx_files(root):
        return read_mnist(root)
    tree = find_images(root)
    if tree:
        return read_tree(root, tree)
    raise InvalidFile(f"This is no dataset: there are neither {WANTED}.")
