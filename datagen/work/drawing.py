"""The figures of a model, one function each: what is computed, how it is drawn, what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from datagen import plots
from datagen.images import LabelledImages
from datagen.model.analysis import (
    AXES_AS_THEY_ARE,
    COLLAPSED_NATS,
    LatentSpace,
    PrincipalDirections,
    decoded,
    latent_grid,
    latent_space,
    nearest,
    strip,
    what_it_does,
)
from datagen.model.autoencoders import Autoencoder
from datagen.model.data import TrainingData
from datagen.model.decoding import Decoder
from datagen.model.samplers import Sampling, draw_latents
from datagen.plots import Row

SEED = 20
# Real images that are looked at: enough for a picture, and soon done.
LOOKED_AT, SEARCHED = 5_000, 20_000
CLASSES_SHOWN, DIRECTIONS_SHOWN = 20, 16
PANELS = 10
GRID_SIDE, STRIP_LENGTH, COLUMNS = 9, 9, 12
ANCHORS = 4
ANCHOR_CLASSES = 10


@dataclass(frozen=True)
class Drawn:
    """A figure, what it says in a sentence, and the numbers behind it."""

    figure: Figure
    caption: str
    numbers: dict[str, Any]


@dataclass(eq=False)
class Subject:
    """A model that is to be drawn, with the real images that may be shown beside it.

    Attributes:
        model: the generator.
        decoder: its decoder, set up for the device.
        name: what it is called.
        class_names: its labels.
        metrics: of its training; `history` holds the curves.
        train: images that it was trained on, or others of their kind; None where there are none.
        held_out: images that it was not trained on; those of `train` where there are none.
        learnt: the labels of which it had training images; no others are shown.
    """

    model: Autoencoder
    decoder: Decoder
    name: str
    class_names: tuple[str, ...]
    metrics: dict[str, Any]
    train: TrainingData | None
    held_out: TrainingData | None
    learnt: tuple[int, ...]

    @classmethod
    def of(
        cls,
        model: Autoencoder,
        device: torch.device,
        name: str,
        class_names: tuple[str, ...],
        metrics: dict[str, Any],
        splits: Mapping[str, LabelledImages],
        learnt: Sequence[int] | None = None,
    ) -> Subject:
        """A model and some real images, by split."""
        known = tuple(range(len(class_names)) if learnt is None else learnt)
        data = {
            split: part
            for split, found in splits.items()
            if len(part := _some(_of(TrainingData.on(device, found.images, found.labels), known)))
        }
        train = data.get("train")
        held_out = data.get("test", data.get("validation", train))
        return cls(
            model, Decoder(model, device), name, class_names, metrics, train, held_out, known
        )

    @cached_property
    def space(self) -> LatentSpace | None:
        """The posteriors of held-out images."""
        if self.held_out is None:
            return None
        looked_at = torch.arange(min(LOOKED_AT, len(self.held_out)))
        return latent_space(self.model, self.held_out.subset(looked_at))

    @property
    def labels(self) -> np.ndarray:
        """The labels that are shown: the first, of a conditional model; one that stands for all."""
        every = self.learnt if self.model.config.is_conditional else (0,)
        return np.array(every[:CLASSES_SHOWN], dtype=np.int64)

    def named(self, label: int) -> str:
        """The name of a label, or nothing where the networks see none."""
        return self.class_names[label] if self.model.config.is_conditional else ""

    @cached_property
    def directions(self) -> PrincipalDirections:
        """The directions in which latents differ most."""
        return PrincipalDirections.of(self.model)

    @property
    def axes(self) -> tuple[str, str]:
        """What the two axes of the plane are called."""
        dims = self.model.config.latent_dim
        if dims <= AXES_AS_THEY_ARE:
            return "z0", "z1" if dims > 1 else "spread by chance"
        return "direction 1", "direction 2"

    @property
    def plane_name(self) -> str:
        """What that plane is."""
        few = self.model.config.latent_dim <= AXES_AS_THEY_ARE
        return "the latent as it is" if few else "the first two principal directions"

    @property
    def left_out(self) -> str:
        """A remark on classes that are not shown."""
        more = len(self.class_names) - len(self.labels)
        return (
            f" ({more:,} more labels are not shown)"
            if more > 0 and self.model.config.is_conditional
            else ""
        )


def _of(data: TrainingData, labels: Sequence[int]) -> TrainingData:
    """The images of some labels alone."""
    own = torch.isin(data.all_labels, torch.tensor(labels))
    return data if bool(own.all()) else data.subset(torch.nonzero(own)[:, 0])


def _some(data: TrainingData) -> TrainingData:
    """At most so many images, evenly from all of them."""
    if len(data) <= SEARCHED:
        return data
    return data.subset(torch.linspace(0, len(data) - 1, SEARCHED).long())


def loss(subject: Subject) -> Drawn | None:
    """Reconstruction, KL and their sum over the epochs, on training and held-out images."""
    history = [
        entry
        for entry in subject.metrics.get("history", [])
        if entry.get("stage") in {"fit", "refine"} and "total" in entry
    ]
    if not history:
        return None
    epochs = list(range(1, len(history) + 1))
    fitted = sum(entry["stage"] == "fit" for entry in history)
    panels = []
    for term in ("reconstruction", "kl", "total"):
        drawn = {"train": (epochs, [entry[term] for entry in history])}
        held = [(n, e[f"validation_{term}"]) for n, e in zip(epochs, history, strict=True)
                if e.get(f"validation_{term}") is not None]  # fmt: skip
        if held:
            drawn["held out"] = ([n for n, _ in held], [value for _, value in held])
        panels.append((f"{term if term != 'kl' else 'KL'} (nats an image)", drawn))
    last = history[fitted - 1] if fitted else history[-1]
    value = last.get("validation_total", last["total"])
    caption = f"After {fitted} epochs the negative ELBO is {value:.1f} nats"
    caption += "; the dotted line is where refinement begins." if fitted < len(history) else "."
    marks = [fitted + 0.5] if 0 < fitted < len(history) else []
    figure = plots.lines(panels, f"{subject.name}: {caption}", "epoch", marks)
    return Drawn(figure, caption, {"history": history})


def kl_per_dimension(subject: Subject) -> Drawn | None:
    """What each dimension tells about the image, those that tell nothing marked."""
    space = subject.space
    if space is None:
        return None
    points = subject.model.config.family == "autoencoder"
    values = space.variance if points else space.kl
    lost = int(space.collapsed.sum())
    dims = len(values)
    if points:
        caption = "A plain autoencoder has no KL; shown is the variance of its codes."
    else:
        caption = (
            f"{lost} of {dims} dimensions have collapsed (below {COLLAPSED_NATS} nats)"
            if lost
            else f"All {dims} dimensions are in use"
        ) + f"; together they take {values.sum():.1f} nats."
    shown = np.arange(dims)[:256]
    figure = plots.bars(
        values[shown].tolist(),
        [f"z{number}" for number in shown],
        space.collapsed[shown].tolist(),
        f"{subject.name}: {caption}",
        "variance" if points else "KL (nats an image)",
    )
    numbers = {
        "kl": [] if points else space.kl.round(6).tolist(),
        "variance": space.variance.round(6).tolist(),
        "collapsed": np.flatnonzero(space.collapsed).tolist(),
    }
    return Drawn(figure, caption, numbers)


def latent_scatter(subject: Subject) -> Drawn | None:
    """Where the images of each class lie in the plane."""
    space = subject.space
    if space is None:
        return None
    points = subject.directions.coordinates(space.means, space.labels)[:, :2]
    if points.shape[1] == 1:
        spread = np.random.default_rng(SEED).uniform(-1, 1, len(points))
        points = np.stack([points[:, 0], spread], axis=1)
    told = (
        "; a CVAE is told the label, so its latents need not cluster by it"
        if subject.model.config.is_conditional
        else ""
    )
    caption = f"Posterior means in {subject.plane_name}{told}."
    figure = plots.scatter(
        points, space.labels, subject.class_names, f"{subject.name}: {caption}", subject.axes
    )
    numbers = {
        "axes": list(subject.axes),
        "points": points.round(4).tolist(),
        "labels": space.labels.tolist(),
        # Whole, so that a point can be decoded, and mixed with another.
        "latents": space.means.round(3).tolist(),
        "class_names": list(subject.class_names),
    }
    return Drawn(figure, caption, numbers)


def latent_grids(subject: Subject) -> Drawn:
    """The plane decoded, evenly in probability, for each class."""
    panels = [
        (
            subject.named(int(label)),
            latent_grid(subject.decoder, subject.directions, int(label), GRID_SIDE),
        )
        for label in subject.labels[:PANELS]
    ]
    across, up = subject.axes
    upwards = f" and {up} upwards" if subject.model.config.latent_dim > 1 else ""
    caption = (
        f"{across} to the right{upwards} ({subject.plane_name}), by the inverse normal CDF; all "
        "else at the label's mean."
    )
    figure = plots.image_panels(panels, f"{subject.name}: the latent plane, decoded", caption)
    names = [name for name, _ in panels]
    numbers = {"axes": list(subject.axes), "side": GRID_SIDE, "labels": names}
    return Drawn(figure, caption, numbers)


def latent_strips(subject: Subject) -> Drawn:
    """What each principal direction does, all others held, with what it correlates with most."""
    rows: list[Row] = []
    found: list[dict[str, Any]] = []
    labels = subject.labels[:ANCHOR_CLASSES]
    known = subject.model.config.latent_dim
    shown = range(min(DIRECTIONS_SHOWN, known))
    for direction in shown:
        strengths = what_it_does(
            subject.model,
            subject.decoder,
            subject.directions,
            direction,
            labels,
            ANCHORS,
            STRIP_LENGTH,
            SEED,
        )
        most = max(strengths, key=lambda name: abs(strengths[name]))
        images = strip(
            subject.decoder, subject.directions, int(labels[-1]), direction, STRIP_LENGTH
        )
        name = f"z{direction}" if known <= AXES_AS_THEY_ARE else f"direction {direction + 1}"
        rows.append(Row(images, name, f"{most}, r = {strengths[most]:+.2f}"))
        found.append({"name": name, "strongest": most, "r": strengths})
    best = max(found, key=lambda one: abs(one["r"][one["strongest"]]))
    caption = (
        f"{best['name']} follows {best['strongest']} most closely "
        f"(r = {best['r'][best['strongest']]:+.2f}); each row changes one direction"
        + ("." if len(shown) == known else f", the {len(shown)} of {known} that vary most.")
    )
    figure = plots.image_rows(rows, f"{subject.name}: {caption}")
    return Drawn(figure, caption, {"directions": found})


def same_z(subject: Subject) -> Drawn | None:
    """One latent under every label: what is style, and what is the label's."""
    labels = subject.labels
    if not subject.model.config.is_conditional:
        return None
    noise = np.random.default_rng(SEED).standard_normal((8, subject.model.config.latent_dim))
    latents = np.repeat(noise, len(labels), axis=0)
    images = decoded(subject.decoder, latents, np.tile(labels, len(noise)))
    grid = images.reshape(len(noise), len(labels), *images.shape[1:])
    caption = (
        f"Each row is one z under every label{subject.left_out}: style stays, the label changes."
    )
    columns = [subject.named(int(label)) for label in labels]
    figure = plots.image_rows(
        [Row(row) for row in grid], f"{subject.name}: one z, all labels", columns
    )
    return Drawn(figure, caption, {"labels": columns, "latents": noise.round(4).tolist()})


def interpolation(subject: Subject) -> Drawn | None:
    """From one real image to another of its class, straight through the latent space."""
    space, data = subject.space, subject.held_out
    if space is None or data is None:
        return None
    rows, numbers = [], []
    for label in subject.learnt[:PANELS]:
        own = np.flatnonzero(space.labels == label)
        if len(own) < 2:  # noqa: PLR2004 - from one to another
            continue
        ends = own[[0, len(own) // 2]]
        share = np.linspace(0.0, 1.0, STRIP_LENGTH)[:, None]
        latents = (1 - share) * space.means[ends[0]] + share * space.means[ends[1]]
        made = decoded(subject.decoder, latents, np.full(len(latents), label))
        real = data.pixels(torch.from_numpy(ends))
        rows.append(Row(np.concatenate([real[:1], made, real[1:]]), subject.class_names[label]))
        numbers.append({"label": subject.class_names[label], "rows": ends.tolist()})
    if not rows:
        return None
    columns = ["real", *[f"{value:.0%}" for value in np.linspace(0, 1, STRIP_LENGTH)], "real"]
    caption = "Between two real images of a class, their posterior means mixed in equal steps."
    figure = plots.image_rows(rows, f"{subject.name}: from image to image", columns)
    return Drawn(figure, caption, {"pairs": numbers})


def reconstructions(subject: Subject) -> Drawn | None:
    """Held-out images, what the model makes of them, and the nearest that it was trained on."""
    space, data, train = subject.space, subject.held_out, subject.train
    if space is None or data is None or train is None:
        return None
    chosen = _one_a_class(space.labels, COLUMNS)
    images = data.pixels(torch.from_numpy(chosen))
    made = decoded(subject.decoder, space.means[chosen], space.labels[chosen])
    rows, apart = nearest(images, train)
    error = np.square((images.astype(np.float64) - made) / 255.0).mean(axis=(1, 2, 3))
    among = "" if data is not train else " (the images are of the training split themselves)"
    caption = (
        f"Mean squared error {error.mean():.4f}; the nearest of {len(train):,} training images is "
        f"at distance {np.median(apart):.1f} (median){among}."
    )
    figure = plots.image_rows(
        [
            Row(images, "original"),
            Row(made, "reconstruction"),
            Row(train.pixels(torch.from_numpy(rows)), "nearest trained on"),
        ],
        f"{subject.name}: {caption}",
        [subject.class_names[label] for label in space.labels[chosen]],
    )
    numbers = {
        "squared_error": error.round(6).tolist(),
        "nearest_rows": train.numbers(torch.from_numpy(rows)).tolist(),
        "nearest_distance": apart.round(4).tolist(),
    }
    return Drawn(figure, caption, numbers)


def _one_a_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Rows of the first image of each class, then of the second, until there are enough."""
    order = np.argsort(labels, kind="stable")
    rank = np.arange(len(order)) - np.searchsorted(labels[order], labels[order], side="left")
    return np.asarray(order[np.argsort(rank, kind="stable")][:count])


def samples(subject: Subject) -> Drawn:
    """Images from the prior of each label, as they are decoded."""
    labels = subject.labels if subject.model.config.is_conditional else np.zeros(8, dtype=np.int64)
    every = np.repeat(labels, COLUMNS)
    index = np.arange(len(every))
    drawn = draw_latents(
        subject.model, Sampling(), SEED, index, np.zeros_like(index), every.astype(np.int64)
    )
    images = decoded(subject.decoder, drawn.latents, every)
    grid = images.reshape(len(labels), COLUMNS, *images.shape[1:])
    rows = [Row(row, subject.named(int(label))) for row, label in zip(grid, labels, strict=True)]
    prior = subject.metrics.get("prior", "standard")
    # Figures show what the decoder makes; jobs add the grain to it.
    without_grain = ", without the grain that jobs add" if subject.model.config.grain else ""
    caption = f"Drawn from the prior ({prior}) at temperature 1{without_grain}{subject.left_out}."
    figure = plots.image_rows(rows, f"{subject.name}: {caption}")
    return Drawn(figure, caption, {"prior": prior, "seed": SEED})


DRAWINGS: dict[str, Callable[[Subject], Drawn | None]] = {
    "loss": loss,
    "kl-per-dimension": kl_per_dimension,
    "latent-scatter": latent_scatter,
    "latent-grid": latent_grids,
    "latent-strips": latent_strips,
    "same-z": same_z,
    "interpolation": interpolation,
    "reconstructions": reconstructions,
    "samples": samples,
}
