"""How a generator and its judge are trained, as values. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from datagen.errors import InvalidRequest
from datagen.model.config import Family, GeneratorConfig, LikelihoodName

PriorName = Literal["standard", "normal", "learnt", "flow"]
OptimizerName = Literal["adamw", "muon"]
Augmentation = Literal["none", "affine"]
RefinementSampler = Literal["prior", "density", "neighbour"]

MAX_SEED = 2**63 - 1
# Steps that a stage takes where its epochs are not given, and epochs that it takes at least: a few
# hundred images make an epoch of one or two steps, of which eight teach nothing.
STEPS = {"epochs": 4000, "refine_epochs": 1200, "judge_epochs": 1500, "feature_epochs": 300}
LEAST_EPOCHS = {"epochs": 8, "refine_epochs": 2, "judge_epochs": 4, "feature_epochs": 1}
# Steps of the flow that count as an epoch, whatever the number of images: they are cheap.
FLOW_EPOCH = 100
FLOW_EPOCHS = 40
# Of a classifier that compares samplers: a yardstick. No more than the judge has, so that a short
# training is not followed by a long evaluation.
EVALUATION_STEPS = 300
# A class with fewer images than this is a small one: transforms then show the networks more of it,
# and there are too few images for a discriminator, which would learn them by heart.
SMALL_CLASS = 500
# From so many images on, more latent dimensions pay.
MANY_IMAGES = 10_000
# Beyond this ratio of the largest class to the smallest, classes are drawn equally often.
LOPSIDED = 2.0


PresetName = Literal["small", "base", "large"]
PRESETS: dict[str, dict[str, int]] = {
    "small": {
        "width": 32,
        "encoder_width": 32,
        "blocks": 1,
        "encoder_blocks": 1,
    },
    "base": {},
    "large": {
        "width": 192,
        "encoder_width": 192,
        "blocks": 4,
        "encoder_blocks": 4,
        "latent_dim": 32,
        "flow_width": 1024,
    },
}
# Sizes that the recipe takes for pictures, the largest first: the next where a time budget has room
# for too few steps of one. By type of device; on any other as on a CPU.
PRESETS_OF_PICTURES: dict[str, tuple[PresetName, ...]] = {
    "cpu": ("base", "small"),
    "cuda": ("large", "base"),
}
SIZES = frozenset(name for preset in PRESETS.values() for name in preset)
# Up to this side a position of the networks stands for 4 x 4 pixels; beyond, for as many more as
# keep the number of positions about the same.
SIDE_OF_STRIDE_4 = 48
MAX_STRIDE = 32
# Values of an image, all channels: from here on more steps of fewer images learn more in the time.
LARGE_VALUES = 8192
LARGE_BATCH = 128
COLOUR = 3
COLOUR_LATENTS = 96
# Strokes, nearly all of them black or white, teach as much when the single-scale networks make
# them, which are many times as fast; so do images too small for a level below the first. Small
# colour images taught more when the single-scale ones made them.
MOST_MID_TONES = 0.2
FEWEST_SIDE = 16
# Up to this side one grid sees the whole picture, and steps of more images cost little more.
SMALL_SIDE = 32
SMALL_LATENTS, SMALL_BATCH = 64, 128
# Of the multi-scale networks: the finest and the coarsest grid have at most so many positions a
# side, and where a position stands for many pixels, one level more shows the edges between them.
FINEST_GRID, COARSEST_GRID = 16, 8
STRIDE_WITH_DETAIL, DETAIL_WIDTH = 4, 24
# More steps of few images: each of Muon's teaches much.
MULTI_SCALE_BATCH = 48
# Each of its steps teaches much, so the average of the weights is what settles them.
MUON: dict[str, Any] = {"optimizer": "muon", "learning_rate": 1.5e-3, "average": 0.995}
# Of the perceptual distance, beside a nat a value.
FEATURE_WEIGHT = 0.3
# Beside networks that take all the time they can get, the judge is good after fewer steps.
MULTI_SCALE_JUDGE_STEPS = 800
# What a model has from the one that its training starts from.
INHERITED = (
    "family",
    "likelihood",
    "latent_dim",
    "width",
    "encoder_width",
    "blocks",
    "encoder_blocks",
    "stride",
    "levels",
    "detail_width",
)


class TrainingOptions(BaseModel):
    """How a generator and its judge are trained; what is not given, `for_images` fills in.

    Attributes:
        preset: sizes of the networks; None leaves them to the recipe, which takes `base` but for
            pictures, where device and time budget decide. Sizes that are given count before it.
        time_budget: seconds that the training may take; it sets the epochs that are not given.
        images: images that are learnt from, the same share of each class; None means all. A time
            budget sets it where it is too short for one pass over all of them.
        family: autoencoder, vae or cvae.
        likelihood: distribution of a pixel given z.
        prior: what the sampler `prior` draws from: N(0, I), a normal a class fitted after training,
            a normal a class trained along, or a flow trained afterwards; None takes the flow for
            multi-scale networks, and else the better of the first two on held-out images.
        epochs: passes over the images, at most.
        refine_epochs: adversarial passes after them.
        refine: have that refinement even where small classes, colours or multi-scale networks speak
            against it.
        refine_sampler: what the refinement draws latents from; it should be what images will be
            drawn from.
        flow_epochs: epochs of the flow, of 100 steps each.
        batch_size: images a step of the generator; all of them where there are fewer.
        learning_rate: of AdamW, at its peak; that of Muon, where it is used, is in proportion.
        judge_batch_size: images a step of the judge; None means as many.
        judge_epochs: passes of the judge.
        patience: epochs without a better bound on held-out images after which it stops; 0 never.
        average: decay of the moving average of the weights, which is what is kept; 0 keeps the
            last weights.
        balanced: draw every class equally often.
        augment: turn, scale, shear and shift each image a little, every time that it is seen.
        transform_condition: condition the networks on those transforms, so that what they generate
            is not transformed.
        feature_weight: weight of the perceptual distance beside the bound, in nats a value of the
            image; 0 leaves it out.
        feature_epochs: passes of the network whose hidden values it compares.
        levels: grids of the multi-scale networks; 0 means the single-scale ones.
        detail_width: channels of the decoder at half the stride; 0 leaves that level out.
        flow_width: hidden values of the flow.
        flow_blocks: residual blocks of the flow.
        optimizer: AdamW alone, or Muon for the matrices and AdamW for the rest.
        beta: weight of the KL.
        kl_schedule: how that weight rises.
        kl_warmup: share of the training over which it rises, for `linear`.
        free_bits: nats a dimension that the KL may have for nothing.
        label_dropout: share of the labels that are left out while training.
        no_kl: leave the KL out of the loss, to see what it is for.
        no_reconstruction: leave the reconstruction out, likewise.
        validation_fraction: share of each class held out where no split is; where it is not given,
            small classes keep all their images.
        density: fit the mixtures that the sampler `density` draws from.
        examples_per_class: posteriors of real images that are kept for `neighbour` and
            `interpolate`.
        evaluation_steps: steps of each classifier by which samplers are compared at the end; as
            many images are generated for it as make eight passes in those steps. 0 compares none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: PresetName | None = None
    time_budget: float | None = Field(default=None, gt=0, le=30 * 86_400, allow_inf_nan=False)
    images: int | None = Field(default=None, ge=1)
    family: Family = "cvae"
    likelihood: LikelihoodName = "bernoulli"
    prior: PriorName | None = None
    epochs: int = Field(default=8, ge=1, le=10_000)
    refine_epochs: int = Field(default=2, ge=0, le=10_000)
    refine: bool = False
    refine_sampler: RefinementSampler = "prior"
    flow_epochs: int = Field(default=FLOW_EPOCHS, ge=1, le=10_000)
    judge_epochs: int = Field(default=8, ge=1, le=10_000)
    patience: int = Field(default=0, ge=0, le=10_000)
    average: float = Field(default=0.0, ge=0, lt=1)
    batch_size: int = Field(default=256, ge=2, le=65_536)
    judge_batch_size: int | None = Field(default=None, ge=2, le=65_536)
    balanced: bool = False
    augment: Augmentation = "none"
    transform_condition: bool = False
    feature_weight: float = Field(default=0.0, ge=0, le=100, allow_inf_nan=False)
    feature_epochs: int = Field(default=4, ge=1, le=10_000)
    learning_rate: float = Field(default=3e-3, gt=0, le=1)
    latent_dim: int = Field(default=16, ge=1, le=1024)
    width: int = Field(default=64, ge=8, le=2048)
    encoder_width: int = Field(default=64, ge=8, le=2048)
    blocks: int = Field(default=2, ge=0, le=64)
    encoder_blocks: int = Field(default=1, ge=0, le=64)
    stride: int = Field(default=4, ge=1, le=32)
    levels: int = Field(default=0, ge=0, le=6)
    detail_width: int = Field(default=0, ge=0, le=512)
    flow_width: int = Field(default=512, ge=8, le=4096)
    flow_blocks: int = Field(default=3, ge=1, le=64)
    optimizer: OptimizerName = "adamw"
    beta: float = Field(default=1.0, ge=0, le=1000)
    kl_schedule: Literal["constant", "linear", "cyclical"] = "linear"
    kl_warmup: float = Field(default=0.1, ge=0, le=1)
    free_bits: float = Field(default=0.0, ge=0, le=100)
    label_dropout: float = Field(default=0.0, ge=0, lt=1)
    no_kl: bool = False
    no_reconstruction: bool = False
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    density: bool = True
    examples_per_class: int = Field(default=5000, ge=0, le=100_000)
    evaluation_steps: int = Field(default=EVALUATION_STEPS, ge=0, le=100_000)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)

    def for_images(
        self, counts: Sequence[int], image_shape: tuple[int, int, int], mid_tones: float = 0.0
    ) -> TrainingOptions:
        """The options with what was not given filled in, as it was found to be best for such
        images: `docs/quality.md` has the figures.

        Args:
            counts: images of each class that are learnt from.
            image_shape: channels, height, width.
            mid_tones: share of the values of pixels that are neither dark nor bright.
        """  # noqa: D205 - one sentence
        count, there = sum(counts), [number for number in counts if number]
        channels, height, width = image_shape
        batch_size = self.batch_size
        if channels * height * width >= LARGE_VALUES and "batch_size" not in self.model_fields_set:
            batch_size = LARGE_BATCH
        judge_batch, wants_levels = batch_size, self._wants_levels(image_shape, mid_tones)
        is_large = max(image_shape[1:]) > SMALL_SIDE
        stride = 4
        while max(height, width) * 4 > SIDE_OF_STRIDE_4 * stride and stride < MAX_STRIDE:
            stride *= 2
        is_small = min(there, default=0) < SMALL_CLASS
        is_picture = wants_levels or channels == COLOUR
        if is_picture and "batch_size" not in self.model_fields_set:
            batch_size = MULTI_SCALE_BATCH if is_large else SMALL_BATCH
        # What tells labels apart is what is compared: one label tells nothing.
        is_compared = wants_levels and is_large and channels != COLOUR and len(there) > 1
        fitting: dict[str, Any] = {
            "batch_size": batch_size,
            "judge_batch_size": judge_batch,
            "stride": stride,
            "latent_dim": _latent_dim(count, channels),
            "likelihood": "gaussian" if channels == COLOUR else "bernoulli",
            "balanced": max(there, default=0) > LOPSIDED * min(there, default=0),
            "augment": "affine" if is_small else "none",
            # Strokes look the same a little turned, and more of them teach more.
            "transform_condition": is_picture,
            "feature_weight": FEATURE_WEIGHT if is_compared else 0.0,
        }
        given = self.model_fields_set
        steps_of = STEPS
        if wants_levels and is_large:
            steps_of = STEPS | {"judge_epochs": MULTI_SCALE_JUDGE_STEPS}
        for name, steps in steps_of.items():
            images = judge_batch if name in {"judge_epochs", "feature_epochs"} else batch_size
            passes = -(-steps // max(1, count // min(images, max(1, count))))
            fitting[name] = max(LEAST_EPOCHS[name], passes)
        per_epoch = max(1, count // min(batch_size, max(1, count)))
        # No more steps than those that made what it learns from.
        steps = (self.epochs if "epochs" in given else fitting["epochs"]) * per_epoch
        fitting["flow_epochs"] = min(FLOW_EPOCHS, -(-steps // FLOW_EPOCH))
        judge_epochs = self.judge_epochs if "judge_epochs" in given else fitting["judge_epochs"]
        judge_images = self.judge_batch_size or judge_batch
        judge_steps = judge_epochs * max(1, count // min(judge_images, max(1, count)))
        fitting["evaluation_steps"] = min(EVALUATION_STEPS, judge_steps)
        if wants_levels:
            fitting |= _multi_scale(image_shape, self.family)
        if is_picture and not ("optimizer" in given and self.optimizer != "muon"):
            fitting |= MUON
        is_refined = not (is_small or is_picture)
        if not (is_refined or self.refine):
            fitting["refine_epochs"] = 0
        usual_latents: int = fitting["latent_dim"]
        fitting |= PRESETS[self.preset or "base"]
        # A preset takes no latents away.
        fitting["latent_dim"] = max(fitting["latent_dim"], usual_latents)
        return self.model_copy(
            update={name: value for name, value in fitting.items() if name not in given}
        )

    def starting_from(
        self, parent: GeneratorConfig, image_shape: tuple[int, int, int]
    ) -> TrainingOptions:
        """The options of a training whose first weights are those of another model.

        The networks are as that model has them, and the KL counts in full from the first step: what
        the weights know already need not be learnt without it.

        Args:
            parent: architecture of that model.
            image_shape: of the images that are learnt from.

        Raises:
            InvalidRequest: images of another shape, or an option that asks for other networks.
        """
        if parent.image_shape != image_shape:
            raise InvalidRequest(
                f"The images have the shape {_times(image_shape)}, and those of the model to start "
                f"from have {_times(parent.image_shape)}; start from a model of the same shape, or "
                "from none.",
                field="from_model",
            )
        given = self.model_fields_set
        if "preset" in given and self.preset is not None:
            raise InvalidRequest(
                f"'preset' is {self.preset!r}, but a training that starts from a model keeps that "
                "model's sizes; leave one of the two out.",
                field="options.preset",
            )
        for name in INHERITED:
            own, theirs = getattr(self, name), getattr(parent, name)
            if name in given and own != theirs:
                raise InvalidRequest(
                    f"{name!r} is {own!r}, and the model to start from has {theirs!r}; leave one "
                    "of the two out.",
                    field=f"options.{name}",
                )
        inherited: dict[str, Any] = {name: getattr(parent, name) for name in INHERITED}
        has_flow_size = {"flow_width", "flow_blocks"} & given
        if parent.flow_width and self.prior in {None, "flow"} and not has_flow_size:
            inherited |= {
                "prior": "flow",
                "flow_width": parent.flow_width,
                "flow_blocks": parent.flow_blocks,
            }
        elif parent.learnt_prior and self.prior is None:
            inherited["prior"] = "learnt"
        if "kl_schedule" not in given:
            inherited["kl_schedule"] = "constant"
        return self.model_copy(update=inherited)

    def presets_to_try(
        self, device: str, image_shape: tuple[int, int, int], mid_tones: float
    ) -> tuple[PresetName | None, ...]:
        """Sizes of the networks that the recipe may take, the largest first.

        Only pictures are learnt by networks of several sizes; what is given stays.

        Args:
            device: type of the device that they are trained on.
            image_shape: channels, height, width.
            mid_tones: share of the values of pixels that are neither dark nor bright.
        """
        if self.model_fields_set & (SIZES | {"preset"}):
            return (self.preset,)
        if not self._wants_levels(image_shape, mid_tones):
            return (None,)
        return PRESETS_OF_PICTURES.get(device, PRESETS_OF_PICTURES["cpu"])

    def outgrows(self, parent: GeneratorConfig) -> bool:
        """Whether images of such a shape are learnt better by other networks than a model has.

        That is so for single-scale networks of an earlier version where the multi-scale ones would
        be taken now. Of small grey images the pixels decide, so none of those is outgrown.
        """
        return parent.levels == 0 and self._wants_levels(parent.image_shape, 0.0)

    def _wants_levels(self, image_shape: tuple[int, int, int], mid_tones: float) -> bool:
        """Whether the networks are multi-scale ones: for pictures, and not for strokes."""
        if "levels" in self.model_fields_set:
            return self.levels > 0
        channels, side = image_shape[0], max(image_shape[1:])
        is_grey_picture = channels == 1 and mid_tones > MOST_MID_TONES
        return side > SMALL_SIDE or (side >= FEWEST_SIDE and is_grey_picture)


def _times(image_shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, image_shape))


def _multi_scale(image_shape: tuple[int, int, int], family: Family) -> dict[str, Any]:
    """What multi-scale networks are best built of and trained with."""
    side, stride = max(image_shape[1:]), 1
    finest = FINEST_GRID if side > SMALL_SIDE else COARSEST_GRID
    while side > finest * stride and stride < MAX_STRIDE:
        stride *= 2
    grid, levels = -(-side // stride), 1
    while grid > COARSEST_GRID:
        grid, levels = -(-grid // 2), levels + 1
    return {
        "stride": stride,
        "levels": levels,
        "detail_width": DETAIL_WIDTH if stride >= STRIDE_WITH_DETAIL else 0,
        "latent_dim": COLOUR_LATENTS if side > SMALL_SIDE else SMALL_LATENTS,
        "blocks": 2,
        "encoder_blocks": 2,
        "likelihood": "laplace",
        "kl_warmup": 0.2,
        "prior": None if family == "autoencoder" else "flow",
    }


def _latent_dim(count: int, channels: int) -> int:
    """Latent dimensions that teach best: colour, place and size are more to tell than a stroke."""
    if channels == COLOUR:
        return COLOUR_LATENTS
    return 32 if count >= MANY_IMAGES else 16
