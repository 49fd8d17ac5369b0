"""What a generator looks like and how it is trained, as values. Imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_SIDE = 1024
MAX_SEED = 2**63 - 1


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

    image_shape: tuple[int, int, int]
    class_count: int = Field(ge=1, le=100_000)
    latent_dim: int = Field(default=16, ge=1, le=1024)
    width: int = Field(default=64, ge=8, le=2048)
    encoder_width: int = Field(default=64, ge=8, le=2048)
    blocks: int = Field(default=2, ge=0, le=64)
    encoder_blocks: int = Field(default=1, ge=0, le=64)
    stride: int = Field(default=4, ge=1, le=32)
    likelihood: Literal["bernoulli"] = "bernoulli"

    @model_validator(mode="after")
    def _usable_shape(self) -> Self:
        channels, height, width = self.image_shape
        if channels not in {1, 3} or not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
            raise ValueError(
                f"image_shape is {self.image_shape}; 1 or 3 channels and sides of 1 to {MAX_SIDE}"
            )
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the network's positions: sides over stride, rounded up."""
        _, height, width = self.image_shape
        return -(-height // self.stride), -(-width // self.stride)


class TrainingOptions(BaseModel):
    """How a generator and its judge are trained; the defaults made the bundled model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=8, ge=1, le=10_000)
    refine_epochs: int = Field(default=4, ge=0, le=10_000)
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
