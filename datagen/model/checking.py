"""Checking a checkpoint without torch: header, configuration, every tensor's type and shape."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open

from datagen.errors import InvalidFile
from datagen.model.config import GeneratorConfig, JudgeConfig
from datagen.model.header import CheckpointHeader, read_document, read_header
from datagen.model.shapes import Form, Forms, generator_forms, judge_forms
from datagen.schemas.base import first_problem

FAMILIES = ("autoencoder", "vae", "cvae")
Config = TypeVar("Config", bound=BaseModel)


def check_generator(path: Path) -> tuple[GeneratorConfig, CheckpointHeader]:
    """The configuration and header of a generator's file, if all of it fits together.

    Raises:
        InvalidFile: truncated, damaged, of another kind, or with tensors that do not fit.
    """
    header = _of_kind(path, "generator", *FAMILIES)
    config = _config(path, GeneratorConfig, header)
    if config.family != header.kind:
        raise InvalidFile(f"{path.name} contradicts itself about what kind of model it holds.")
    _check_tensors(path, header, config, generator_forms(config))
    return config, header


def check_judge(path: Path) -> tuple[JudgeConfig, CheckpointHeader]:
    """The configuration and header of a judge's file, if all of it fits together.

    Raises:
        InvalidFile: truncated, damaged, of another kind, or with tensors that do not fit.
    """
    header = _of_kind(path, "judge", "judge")
    config = _config(path, JudgeConfig, header)
    _check_tensors(path, header, config, judge_forms(config))
    return config, header


def check_finite(path: Path) -> None:
    """Refuse a file with values that are no finite numbers, a tensor at a time.

    Raises:
        InvalidFile: there are such values, or the file is damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                if not np.isfinite(file.get_tensor(name)).all():
                    raise InvalidFile(
                        f"{path.name} has values in {name} that are not finite numbers."
                    )
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InvalidFile(f"{path.name} is damaged: {error}.") from error


def _of_kind(path: Path, wanted: str, *kinds: str) -> CheckpointHeader:
    header = read_header(path)
    if header.kind not in kinds:
        raise InvalidFile(f"{path.name} holds a {header.kind}, and a {wanted} is needed.")
    return header


def _config(path: Path, kind: type[Config], header: CheckpointHeader) -> Config:
    try:
        return kind.model_validate(header.config)
    except ValidationError as error:
        where, why = first_problem(error)
        raise InvalidFile(
            f"{path.name} has a configuration that cannot be used: {where}: {why}."
        ) from None


def _check_tensors(
    path: Path, header: CheckpointHeader, config: GeneratorConfig | JudgeConfig, wanted: Forms
) -> None:
    if config.image_shape != header.image_shape or config.class_count != len(header.class_names):
        raise InvalidFile(f"{path.name} contradicts itself about its images or classes.")
    found = _forms_in(path)
    if found != wanted:
        differing = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
        raise InvalidFile(
            f"{path.name} has weights that do not fit its own configuration: {differing[0]} is "
            f"{_told(found.get(differing[0]))} and should be {_told(wanted.get(differing[0]))}."
        )


def _forms_in(path: Path) -> Forms:
    document = read_document(path)
    try:
        return {
            name: Form(str(entry["dtype"]), tuple(int(side) for side in entry["shape"]))
            for name, entry in document.items()
            if name != "__metadata__"
        }
    except (TypeError, KeyError, ValueError):
        raise InvalidFile(f"{path.name} is damaged: its header lists no tensors.") from None


def _told(form: Form | None) -> str:
    return "not there" if form is None else f"{form.dtype} {form.shape}"
