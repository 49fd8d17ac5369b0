"""What a generator and a judge look like, as values. Imports no torch."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MAX_SIDE = 1024
MAX_COMPONENTS = 256
# Where the metrics of a model tell how many images of each class it learnt from: none means that
# the class is not learnt.
TRAINING_COUNTS = "training_images_per_class"

Family = Literal["autoencoder", "vae", "cvae"]
LikelihoodName = Literal["bernoulli", "gaussian", "laplace", "discretized_logistic"]

# Values that describe how an image was transformed: turn, scale, shear, shift across and down.
TRANSFORM_VALUES = 5
# Channels in which the coarsest grid of the multi-scale networks meets the latent.
NECK_WIDTH = 32
# Frequencies of the sines and cosines that stand for a time in the flow.
FREQUENCIES = 16
# Channels of a level are those of the finest one times at most this.
WIDEST = 4


def _usable_shape(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    channels, height, width = shape
    if channels not in {1, 3} or not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ValueError(f"{shape} is not 1 or 3 channels and sides of 1 to {MAX_SIDE}")
    return shape


# Channels, height, width.
ImageShape = Annotated[tuple[int, int, int], AfterValidator(_usable_shape)]


class GeneratorConfig(BaseModel):
    """Architecture of a generator: an autoencoder, a VAE or a CVAE, all of the same networks.

    Attributes:
        family: what the latent is: a point, a distribution, or a distribution given the label.
        image_shape: channels, height, width; any height and width.
        class_count: number of labels.
        latent_dim: dimensions of the latent z.
        width: channels of the decoder's convolutions.
        encoder_width: channels of the encoder's convolutions.
        blocks: residual blocks of the decoder.
        encoder_blocks: residual blocks of the encoder.
        stride: side of the square of pixels that one position of the network stands for.
        levels: grids of the multi-scale networks, each of half the sides of the one before and of
            twice its channels; 0 means the single-scale networks.
        detail_width: channels of the decoder at half the stride; 0 leaves that level out.
        transform_condition: whether the networks are conditioned on how an image was transformed
            while training, so that what they generate is not transformed.
        flow_width: hidden values of the flow that the sampler `prior` draws by; 0 means no flow.
        flow_blocks: residual blocks of that flow.
        likelihood: distribution of a pixel given z.
        null_label: whether a label that says nothing was trained too, by leaving labels out.
        learnt_prior: whether p(z | y) was trained, and is no N(0, I).
        components: normals a class in the density of the posterior samples; 0 where none is kept.
        grain: standard deviation of the noise that generated images get, in grey levels a channel;
            empty adds none.
        grain_correlation: how far the channels' noise is the same: of a sensor's own noise 0, of
            fine texture nearly 1.
        grain_kernel: square of an odd side that the noise is filtered by, row by row; empty leaves
            it white.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Family = "cvae"
    image_shape: ImageShape
    class_count: int = Field(ge=1, le=100_000)
    latent_dim: int = Field(default=16, ge=1, le=1024)
    width: int = Field(default=64, ge=8, le=2048)
    encoder_width: int = Field(default=64, ge=8, le=2048)
    blocks: int = Field(default=2, ge=0, le=64)
    encoder_blocks: int = Field(default=1, ge=0, le=64)
    stride: int = Field(default=4, ge=1, le=32)
    levels: int = Field(default=0, ge=0, le=6)
    detail_width: int = Field(default=0, ge=0, le=512)
    transform_condition: bool = False
    flow_width: int = Field(default=0, ge=0, le=4096)
    flow_blocks: int = Field(default=3, ge=1, le=64)
    likelihood: LikelihoodName = "bernoulli"
    null_label: bool = False
    learnt_prior: bool = False
    components: int = Field(default=0, ge=0, le=MAX_COMPONENTS)
    grain: tuple[Annotated[float, Field(ge=0, le=255, allow_inf_nan=False)], ...] = ()
    grain_correlation: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    grain_kernel: tuple[Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)], ...] = ()

    @property
    def is_conditional(self) -> bool:
        """Whether the networks see the label."""
        return self.family == "cvae"

    @property
    def shows_strokes(self) -> bool:
        """Whether the images are strokes: grey ones that single-scale networks learn."""
        return self.image_shape[0] == 1 and not self.levels

    @property
    def label_count(self) -> int:
        """Labels that the networks know: none, the classes, or the classes and the null label."""
        return (self.class_count + self.null_label) if self.is_conditional else 0

    @property
    def prior_classes(self) -> int:
        """Priors that are kept: one a class, or one for all where the networks see no label."""
        return self.class_count if self.is_conditional else 1

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the network's positions: sides over stride, rounded up."""
        _, height, width = self.image_shape
        return -(-height // self.stride), -(-width // self.stride)

    @property
    def coarsest_grid(self) -> tuple[int, int]:
        """Rows and columns of the coarsest level of the multi-scale networks."""
        rows, columns = self.grid
        halved = 2 ** (self.levels - 1)
        return -(-rows // halved), -(-columns // halved)

    def level_widths(self, finest: int) -> list[int]:
        """Channels of the levels of the multi-scale networks, from the finest to the coarsest."""
        return [finest * min(WIDEST, 2**level) for level in range(self.levels)]

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        if not self.levels and self.detail_width:
            raise ValueError("detail_width needs levels of 1 or more")
        if self.detail_width and self.stride % 2:
            raise ValueError(f"a stride of {self.stride} has no half for detail_width")
        if self.grain and len(self.grain) != self.image_shape[0]:
            raise ValueError(f"a grain of {len(self.grain)} values is not one a channel")
        side = math.isqrt(taps := len(self.grain_kernel))
        if taps and not (side * side == taps and side % 2 and side <= min(self.image_shape[1:])):
            raise ValueError(
                f"a grain_kernel of {taps} values is no square of an odd side within the image"
            )
        return self


class JudgeConfig(BaseModel):
    """Architecture of a judge.

    Attributes:
        image_shape: channels, height, width.
        class_count: number of labels.
        width: channels of its first convolution.
        temperature: what its logits are divided by, so that its probabilities are right as often as
            they say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_shape: ImageShape
    class_count: int = Field(ge=1, le=100_000)
    width: int = Field(default=32, ge=8, le=1024)
    temperature: float = Field(default=1.0, gt=0, le=100, allow_inf_nan=False)

    @property
    def feature_count(self) -> int:
        """Features that the head reads: sides are halved three times, rounded up."""
        _, height, width = self.image_shape
        return 2 * self.width * -(-height // 8) * -(-width // 8)
