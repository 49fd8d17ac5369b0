"""The report as one page that needs nothing beside it: no script, no network, readable anywhere."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from datagen.plots import bars, dots, heat, render, steps

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 0.5rem; }
.verdict { border-left: 0.4rem solid #888; padding: 0.5rem 1rem; background: #8881; }
.helps { border-color: #2e7d4f; } .hurts { border-color: #b3402a; }
.verdict p { margin: 0.25rem 0; } .verdict p:first-child { font-size: 1.2rem; font-weight: 600; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
table { border-collapse: collapse; margin: 0.5rem 0; }
td, th { padding: 0.15rem 1.25rem 0.15rem 0; vertical-align: top; text-align: left; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.pairs { display: flex; flex-wrap: wrap; gap: 1rem; }
.pairs figure { margin: 0; font-size: 0.8rem; }
.pairs img { width: 84px; image-rendering: pixelated; border-radius: 2px; }
.small { font-size: 0.875rem; }
"""
_STYLES_OF = {
    "helps": "helps",
    "hurts": "hurts",
    "no_measurable_difference": "none",
    "unknown": "unknown",
}
_ARM_NAMES = {
    "real_affine": "real",
    "real_and_synthetic_affine": "real + synthetic",
    "real": "real, no transforms",
    "synthetic": "synthetic alone, no transforms",
}


def page(report: Mapping[str, Any]) -> str:
    """The page of a report, as `datagen.quality.report.assembled` gives it with its subject."""
    own = report["subject"]
    title = escape(f"What the images of {own['model']} are worth")
    verdict = report["verdict"]
    advice = "".join(f"<p>{escape(line)}</p>" for line in verdict["advice"])
    sections = "".join(
        f"<section><h2>{escape(heading)}</h2>{body}</section>"
        for heading, body in _sections(report)
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f'<body><h1>{title}</h1><div class="verdict {_STYLES_OF[verdict["outcome"]]}">'
        f"<p>{escape(verdict['sentence'])}</p>{advice}</div>{_notes(report)}{_facts(report)}"
        f"{sections}"
        "</body></html>\n"
    )


def _notes(report: Mapping[str, Any]) -> str:
    """What was left out; reports of an earlier version say nothing of it."""
    items = "".join(f"<li>{escape(note)}</li>" for note in report.get("notes", []))
    return f"<section><h2>What to mind</h2><ul>{items}</ul></section>" if items else ""


def _facts(report: Mapping[str, Any]) -> str:
    own, effort = report["subject"], report["effort"]
    gate = own["gate"]
    facts = {
        "job": own["job"],
        "images": f"{own['images']:,}",
        "sampler": own["sampler"],
        "temperature": own["temperature"],
        "strength": own.get("strength"),
        "gate": None if gate is None else ", ".join(f"{key} {gate[key]}" for key in gate),
        "real images": f"{own['real']}: {own['training_images']:,} to learn from, "
        f"{own['held_out_images']:,} held out",
        "effort": "quick" if effort["quick"] else "full",
        "model sha256": own["model_digest"],
    }
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
        if value is not None
    )
    return f"<table>{rows}</table>"


def _sections(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if (found := report.get("usefulness")) is not None:
        yield "Does training with them help?", _usefulness(found)
    if (found := report.get("fidelity")) is not None:
        yield "Are the labels right?", _fidelity(found, report["classes"])
    if (found := report.get("coverage")) is not None:
        yield "Do they vary as real ones do?", _coverage(found)
    if (found := report.get("distance")) is not None:
        yield "How far are they from real ones?", _distance(found)
    if (found := report.get("copying")) is not None:
        yield "Are they copies?", _copying(found)
    if report["not_computed"]:
        items = "".join(
            f"<li>{escape(each['part'])}: {escape(each['reason'])}</li>"
            for each in report["not_computed"]
        )
        yield "What could not be computed", f"<ul>{items}</ul>"


def _picture(figure: Figure, alt: str) -> str:
    data = base64.b64encode(render(figure, "svg")).decode()
    return f'<p><img src="data:image/svg+xml;base64,{data}" alt="{escape(alt)}"></p>'


def _usefulness(found: Mapping[str, Any]) -> str:
    rows = [
        (_ARM_NAMES[arm], [100 * value for value in values], None)
        for arm, values in found["arms"].items()
    ]
    arms = dots(
        rows, "What a classifier makes of held-out real images", "balanced accuracy, percent"
    )
    compared = {"real + synthetic, over real": found["gain"]}
    if found["synthetic_alone"] is not None:
        compared["synthetic alone, over real"] = found["synthetic_alone"]
    gains = dots(
        [
            (name, [100 * one for one in own["per_seed"]], _interval(own, 100))
            for name, own in compared.items()
        ],
        "The difference, paired by seed and image, with its 95% interval",
        "points of balanced accuracy",
        zero=0.0,
    )
    told = (
        f"{found['seeds']} classifiers an arm, {found['steps']:,} steps each, on "
        f"{found['held_out']:,} held-out real images; {found['synthetic_share']:.0%} of each mixed "
        "batch is synthetic, every class as often as another."
    )
    return f"<p>{escape(told)}</p>" + _picture(gains, "Gains") + _picture(arms, "Arms")


def _interval(own: Mapping[str, Any], scale: float) -> tuple[float, float, float] | None:
    values = [own["value"], own["low"], own["high"]]
    if None in values:
        return None
    value, low, high = (scale * each for each in values)
    return value, low, high


def _fidelity(found: Mapping[str, Any], classes: list[str]) -> str:
    real = found["evaluator"]
    told = (
        f"An evaluator that learnt from real images alone, and is neither the judge nor the "
        f"features, gives {found['agreement']:.1%} of the images their label "
        f"({found['low']:.1%} to {found['high']:.1%}); of held-out real images, "
        f"{real['agreement']:.1%}."
    )
    names = list(found["per_class"])
    per_class = bars(
        [100 * found["per_class"][name] for name in names],
        names,
        [found["per_class"][name] >= real["per_class"].get(name, 1.0) - 0.02 for name in names],
        "Agreement per label; dark where it is more than 2 points below that of real images",
        "percent",
    )
    confusion = heat(
        np.array(found["confusion"]),
        classes,
        "Labels, and what the evaluator takes the images for",
        ("taken for", "label"),
    )
    return (
        f"<p>{escape(told)}</p>"
        + _picture(per_class, "Agreement per label")
        + _picture(confusion, "Confusion")
    )


def _coverage(found: Mapping[str, Any]) -> str:
    names = ("precision", "recall", "density", "coverage")
    words = {
        "precision": "images that lie among the real ones",
        "recall": "real images that lie among them",
        "density": "how close real ones stand round each image",
        "coverage": "real images that have one nearby",
    }
    rows = [
        [name, _number(found[name]), _number(found["held_out"][name]), words[name]]
        for name in names
    ]
    note = f"{found['images']:,} images a side, {found['neighbours']} neighbours."
    return _table(["", "these", "held-out real ones", ""], rows) + f"<p>{escape(note)}</p>"


def _distance(found: Mapping[str, Any]) -> str:
    rows = []
    whole = {"all": found, **found["per_class"]}
    for name, own in whole.items():
        for kind in ("frechet", "kernel"):
            if kind in own:
                here, floor = own[kind], own[kind]["floor"]
                rows.append(
                    [name, "Fréchet" if kind == "frechet" else kind, *map(_ranged, (here, floor))]
                )
    note = (
        f"In {found['features']} features of a classifier of the real images. The floor is what as "
        "many held-out real images come to; both are measured from the training images."
    )
    return f"<p>{escape(note)}</p>" + _table(["label", "", "these", "floor"], rows)


def _ranged(own: Mapping[str, Any]) -> str:
    if own["low"] is None:
        return _number(own["value"])
    return f"{own['value']:.4g} ({own['low']:.4g} to {own['high']:.4g})"


def _copying(found: Mapping[str, Any]) -> str:
    nearest, z = found["nearest"], found["copying_z"]
    rows = [
        ["copies of training images", f"{found['copies']:,} ({found['copy_rate']:.2%})"],
        ["the same of held-out real images", f"{found['held_out_copy_rate']:.2%}"],
        ["exact duplicates among them", f"{found['exact_duplicates']:,}"],
        ["near duplicates among them", f"{found['near_duplicates']:,}"],
        ["authenticity", _number(found["authenticity"])],
        ["C_T, all labels", _number(z["all"])],
        ["C_T per label", ", ".join(f"{name} {_number(z[name])}" for name in z if name != "all")],
    ]
    histogram = steps(
        nearest["edges"],
        {"these images": nearest["generated"], "held-out real images": nearest["held_out"]},
        "Distance to the nearest training image",
        "in features",
    )
    pairs = "".join(
        f"<figure>{_small(pair['generated_png'], 'generated')} {_small(pair['real_png'], 'real')}"
        f"<figcaption>{escape(pair['label'])}: image {pair['image']}, row "
        f"{pair['training_row']}</figcaption></figure>"
        for pair in found["pairs"]
    )
    note = (
        "The closest pairs, generated beside real. C_T far below 0 would mean that these images "
        "lie nearer to the training set than held-out real ones do."
    )
    return (
        _table(["", ""], rows)
        + _picture(histogram, "Distances to the nearest training image")
        + f'<p>{escape(note)}</p><div class="pairs">{pairs}</div>'
    )


def _small(png: str, alt: str) -> str:
    return f'<img src="data:image/png;base64,{png}" alt="{alt}">'


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4g}"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    top = "".join(f"<th>{escape(head)}</th>" for head in heads) if any(heads) else ""
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>" if top else f"<table>{body}</table>"
