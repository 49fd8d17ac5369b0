"""What a model consists of in the store."""

from __future__ import annotations

from dataclasses import dataclass

from datagen.db.tables import Model


@dataclass(frozen=True)
class StoredFile:
    """A file in the store, and the SHA-256 that it must have."""

    key: str
    digest: str


@dataclass(frozen=True)
class ModelFiles:
    """The files of a trained model.

    Attributes:
        generator, judge: weights.
        examples: posteriors of real images, for samplers that start from them.
        index: what copies of real images are known by.
    """

    generator: StoredFile
    judge: StoredFile
    examples: StoredFile | None = None
    index: StoredFile | None = None

    @classmethod
    def of(cls, model: Model) -> ModelFiles:
        """Those of a model whose training has succeeded."""
        return cls(
            generator=StoredFile(str(model.checkpoint_key), str(model.digest)),
            judge=StoredFile(str(model.judge_key), str(model.judge_digest)),
            examples=_optional(model.examples_key, model.examples_digest),
            index=_optional(model.index_key, model.index_digest),
        )

    def digests(self) -> tuple[str | None, ...]:
        """The SHA-256 of each file, None for one that there is not; the same for equal models."""
        every = (self.generator, self.judge, self.examples, self.index)
        return tuple(None if file is None else file.digest for file in every)

    def columns(self) -> dict[str, str | None]:
        """The columns of the model's row that name them."""
        return {
            "checkpoint_key": self.generator.key,
            "digest": self.generator.digest,
            "judge_key": self.judge.key,
            "judge_digest": self.judge.digest,
            "examples_key": None if self.examples is None else self.examples.key,
            "examples_digest": None if self.examples is None else self.examples.digest,
            "index_key": None if self.index is None else self.index.key,
            "index_digest": None if self.index is None else self.index.digest,
        }


def _optional(key: str | None, digest: str | None) -> StoredFile | None:
    return None if key is None or digest is None else StoredFile(key, digest)
