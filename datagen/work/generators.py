"""Generators: a decoder and its judge, loaded once a process and kept for later batches."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import structlog
import torch
from sqlalchemy import Engine, select
from threadpoolctl import threadpool_limits

from datagen.db.session import reading
from datagen.db.tables import Model
from datagen.errors import InvalidFile
from datagen.images import encode_png
from datagen.model.analysis import PrincipalDirections
from datagen.model.autoencoders import Autoencoder
from datagen.model.checkpoint import load_generator
from datagen.model.decoding import Decoder
from datagen.model.devices import resolve_device
from datagen.model.examples import Examples, load_examples
from datagen.model.samplers import NO_SOURCE, Sampling, draw_latents
from datagen.quality.judge import Scorer, load_judge
from datagen.quality.training_index import TrainingIndex, load_index
from datagen.scratch import scratch
from datagen.service.model_files import ModelFiles, StoredFile
from datagen.settings import Settings
from datagen.shards import SampleBatch, ShardInfo, write_shard
from datagen.storage import Storage

KEPT = 4

log = structlog.get_logger()


@dataclass(frozen=True)
class Generator:
    """What a worker needs to make images of one model."""

    model: Autoencoder
    decoder: Decoder
    scorer: Scorer
    examples: Examples | None = None
    index: TrainingIndex | None = None

    @cached_property
    def directions(self) -> PrincipalDirections:
        """The directions in which the model's latents differ most."""
        return PrincipalDirections.of(self.model)


class GeneratorCache:
    """The generators used last, by the digests of all that they consist of.

    Models of the same weights may keep other examples, and know copies by another index.
    """

    def __init__(self, storage: Storage, device: str) -> None:
        self._storage = storage
        self._device = resolve_device(device)
        self._kept: OrderedDict[tuple[str | None, ...], Generator] = OrderedDict()

    def get(self, files: ModelFiles) -> Generator:
        """The generator of these files, loaded from the store where it is not at hand.

        Raises:
            InvalidFile: weights that are missing from the store, damaged, or not the ones named.
        """
        name = files.digests()
        if name not in self._kept:
            self._kept[name] = self._loaded(files)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(name)
        return self._kept[name]

    def _loaded(self, files: ModelFiles) -> Generator:
        with self._fetched(files.generator) as path:
            model, _ = load_generator(path, self._device)
        with self._fetched(files.judge) as path:
            judge, _ = load_judge(path, self._device)
        examples = index = None
        if files.examples is not None:
            with self._fetched(files.examples) as path:
                examples = load_examples(path, model.config.latent_dim)
        if files.index is not None:
            with self._fetched(files.index) as path:
                index = load_index(path, model.config.image_shape, model.config.class_count)
        decoder, scorer = Decoder(model, self._device), Scorer(judge, self._device)
        return Generator(model, decoder, scorer, examples, index)

    def _fetched(self, file: StoredFile) -> AbstractContextManager[Path]:
        return fetched(self._storage, file.key, file.digest)


@contextmanager
def fetched(storage: Storage, key: str, digest: str) -> Iterator[Path]:
    """A local copy of stored weights, checked against their digest.

    Raises:
        InvalidFile: missing from the store, or not what the database says.
    """
    try:
        data = storage.get(key)
    except FileNotFoundError:
        raise InvalidFile(
            f"The weights {key} are missing from the storage; train or import the model again."
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise InvalidFile(
            f"The weights {key} have the digest {found[:16]}… and not {digest[:16]}…; "
            "the file was changed or damaged."
        )
    with scratch("weights") as folder:
        path = folder / "weights.safetensors"
        path.write_bytes(data)
        yield path


def use_threads(settings: Settings) -> None:
    """Share the machine's cores among the worker processes.

    NumPy's products as well as torch's: where each of two processes has as many threads as there
    are cores, the threads wait for each other, and a gate's work took five times as long.
    """
    cores = _usable_cores()
    threads = max(1, cores // (settings.workers or cores))
    torch.set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")


def _usable_cores() -> int:
    """Cores that this process may run on, or fewer where `OMP_NUM_THREADS` says so."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    # One number a level of nested parallelism; only the first concerns us.
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(cores, int(first)) if first.isascii() and first.isdigit() and int(first) else cores


@contextmanager
def all_threads(settings: Settings) -> Iterator[None]:
    """Compute with every core for a while; then go on beside the other processes."""
    use_threads(settings.model_copy(update={"workers": 1}))
    try:
        yield
    finally:
        use_threads(settings)


def warm_up(engine: Engine, cache: GeneratorCache, settings: Settings) -> None:
    """Load the models that are likely to be asked for, and run each once.

    The first pass through a network costs far more than the second: a user who asks for ten images
    should not pay for it.
    """
    use_threads(settings)
    with reading(engine) as session:
        ready = session.scalars(
            select(Model)
            .where(Model.state == "succeeded", Model.removed_at.is_(None))
            .order_by(Model.visibility.desc(), Model.ended_at.desc())
            .limit(2)
        ).all()
    for model in ready:
        try:
            _run_once(cache, model)
        except Exception as error:  # noqa: BLE001 - stores have errors of their own kinds
            # Its jobs will fail with this reason; those of other models must find a worker.
            log.warning("model_not_warmed_up", model=str(model.id), reason=str(error))


def _run_once(cache: GeneratorCache, model: Model) -> None:
    generator = cache.get(ModelFiles.of(model))
    zero = np.zeros(1, dtype=np.int64)
    drawn = draw_latents(generator.model, Sampling(), 0, zero, zero, zero)
    for images in generator.decoder.tiles(drawn.latents, zero):
        generator.scorer.score(images)
        write_shard(_one_sample(encode_png(images)), _NO_JOB)


_NO_JOB = ShardInfo(("none",), "", "", 0, "", 0, 1.0)


def _one_sample(images: list[bytes]) -> SampleBatch:
    zero = np.zeros(1, dtype=np.int64)
    none = np.full((1, 2), NO_SOURCE, dtype=np.int64)
    return SampleBatch(zero, zero, zero.astype(np.float64), zero, zero, none, [bytes(32)], images)
