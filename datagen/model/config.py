"""What a generator looks like and how it is trained, as values. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_SIDE = 1024
MAX_SEED = 2**63 - 1


def _usable_shape(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    channels, height, width = shape
    if channels not in {1, 3} or not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ValueError(f"{shape} is not 1 or 3 channels and sides of 1 to {MAX_SIDE}")
    return shape


# Channels, height, width.
ImageShape = Annotated[tuple[int, int, int], AfterValidator(_usable_shape)]


class CVAEConfig(BaseModel):
    """Architecture of a conditional variational autoencoder.

    Attributes:
        image_shape: channels, height, width; any height and width.
        class_count: number of labels.
        latent_dim: dimensions of the latent z.
        width: channels of the decoder's convolutions.
        encoder_width: channels of the encoder's convolutions.
        blocks: residual blocks of the decoder.
        encoder_blocks: residual blocks of the encoder.
        stride: side of the square of pixels that one position of the network stands for.
        likelihood: distribution of a pixel given z.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_shape: ImageShape
    class_count: int = Field(ge=1, le=100_000)
    latent_dim: int = Field(default=16, ge=1, le=1024)
    width: int = Field(default=64, ge=8, le=2048)
    encoder_width: int = Field(default=64, ge=8, le=2048)
    blocks: int = Field(default=2, ge=0, le=64)
    encoder_blocks: int = Field(default=1, ge=0, le=64)
    stride: int = Field(default=4, ge=1, le=32)
    likelihood: Literal["bernoulli"] = "bernoulli"

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the network's positions: sides over stride, rounded up."""
        _, height, width = self.image_shape
        return -(-height // self.stride), -(-width // self.stride)

    @property
    def value_count(self) -> int:
        """Number of values that a checkpoint of this architecture holds."""
        positions = self.grid[0] * self.grid[1]
        folded = self.image_shape[0] * self.stride**2
        wide, slim, dims = self.encoder_width, self.width, self.latent_dim
        encoder = (9 * folded + 1 + self.class_count) * wide
        encoder += self.encoder_blocks * _block_values(wide)
        encoder += (wide * positions + 1) * 2 * dims
        decoder = (dims + 1 + self.class_count) * slim * positions
        decoder += self.blocks * _block_values(slim) + (9 * slim + 1) * folded
        prior = self.class_count * dims * (1 + dims)
        return encoder + decoder + prior


def _block_values(width: int) -> int:
    """Values of a residual block: a 3 x 3 and a 1 x 1 convolution, with their biases."""
    return (9 * width + 1 + width + 1) * width


# Steps that a stage takes at least, unless its epochs are given: a few hundred images make an epoch
# of one or two steps, and eight of those teach nothing.
LEAST_STEPS = {"epochs": 800, "refine_epochs": 200, "judge_epochs": 400}


class TrainingOptions(BaseModel):
    """How a generator and its judge are trained; the defaults made the bundled model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=8, ge=1, le=10_000)
    refine_epochs: int = Field(default=2, ge=0, le=10_000)
    judge_epochs: int = Field(default=8, ge=1, le=10_000)
    batch_size: int = Field(default=256, ge=2, le=65_536)
    learning_rate: float = Field(default=3e-3, gt=0, le=1)
    latent_dim: int = Field(default=16, ge=1, le=1024)
    width: int = Field(default=64, ge=8, le=2048)
    beta: float = Field(default=1.0, ge=0, le=1000)
    kl_warmup: float = Field(default=0.1, ge=0, le=1)
    no_kl: bool = False
    no_reconstruction: bool = False
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)

    def for_images(self, count: int) -> TrainingOptions:
        """The options with as many epochs as so many images need, where none were given."""
        per_epoch = max(1, count // min(self.batch_size, max(1, count)))
        needed = {
            name: max(getattr(self, name), -(-steps // per_epoch))
            for name, steps in LEAST_STEPS.items()
            if name not in self.model_fields_set
        }
        return self.model_copy(update=needed)
