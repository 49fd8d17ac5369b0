"""The wire types that the API and the client share, and their limits.

Unknown fields are refused in requests (a misspelt option must not pass in silence) and ignored in
answers (an older client keeps reading a newer server).
"""

from __future__ import annotations

from datagen.schemas.base import (
    ENDED,
    MAX_ATTEMPTS,
    MAX_IMAGES,
    MAX_SEED,
    MAX_TEMPERATURE,
    MAX_TRUNCATION,
    NAME_PATTERN,
    SPLITS,
    STARTING_FROM_IMAGES,
    Count,
    License,
    Name,
    Page,
    Problem,
    Readiness,
    Request,
    Resource,
    Sampler,
    Seed,
    State,
)
from datagen.schemas.datasets import (
    Dataset,
    DatasetCreate,
)
from datagen.schemas.exports import (
    Export,
    ExportCreate,
    ExportPlan,
    Format,
    Link,
    LinkCreate,
)
from datagen.schemas.jobs import (
    Gate,
    Job,
    JobCreate,
    LabelProgress,
    ModelRef,
    Recommended,
    Sample,
    StageSeconds,
)
from datagen.schemas.keys import (
    ImagesUsed,
    Key,
    KeyCreate,
    KeyMade,
    KeyRotate,
    Me,
    Scope,
)
from datagen.schemas.models import (
    Figures,
    FiguresCreate,
    Model,
    ModelCreate,
    TrainingOptionsIn,
)
from datagen.schemas.reports import (
    ComparedRow,
    Comparison,
    Report,
    ReportCreate,
)

__all__ = [
    "ENDED",
    "MAX_ATTEMPTS",
    "MAX_IMAGES",
    "MAX_SEED",
    "MAX_TEMPERATURE",
    "MAX_TRUNCATION",
    "NAME_PATTERN",
    "SPLITS",
    "STARTING_FROM_IMAGES",
    "ComparedRow",
    "Comparison",
    "Count",
    "Dataset",
    "DatasetCreate",
    "Export",
    "ExportCreate",
    "ExportPlan",
    "Figures",
    "FiguresCreate",
    "Format",
    "Gate",
    "ImagesUsed",
    "Job",
    "JobCreate",
    "Key",
    "KeyCreate",
    "KeyMade",
    "KeyRotate",
    "LabelProgress",
    "License",
    "Link",
    "LinkCreate",
    "Me",
    "Model",
    "ModelCreate",
    "ModelRef",
    "Name",
    "Page",
    "Problem",
    "Readiness",
    "Recommended",
    "Report",
    "ReportCreate",
    "Request",
    "Resource",
    "Sample",
    "Sampler",
    "Scope",
    "Seed",
    "StageSeconds",
    "State",
    "TrainingOptionsIn",
]
