"""Do the images help? Three tracks on the whole of MNIST, cell by cell.

    python -m benchmarks.quality --track A|B|C --mnist DIR [--seeds 5] [--workers 2]
        [--device cpu] [--anew]
    python -m benchmarks.quality --track A --table

A cell is a generator, or a classifier that learns from something, of one seed. Cells that are in
`benchmarks/results/quality-TRACK.json` are not run again, so a run that was cut off goes on;
trained generators stay in --work, and one that is missing there is trained again where a cell
needs it. With `--on choosing` all is measured on the 10,000 images that
choose between settings, and the test set is not looked at; those results have a file of their own.

Prints the table as Markdown, and as its last line one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

from benchmarks.quality.cells import GENERATOR, Place, cell
from benchmarks.quality.generator import is_trained
from benchmarks.quality.results import Results
from datagen.model.devices import resolve_device

TRACKS = ("A", "B", "C")
WORK = Path(__file__).resolve().parents[2] / ".bench-quality"


def missing(
    track: ModuleType, phases: list[list[str]], results: Results, work: Path
) -> list[list[str]]:
    """The cells to run, by phase: what has no result, and what others need and is not kept."""
    new = [[name for name in phase if name not in results.cells] for phase in phases]
    needed = {track.folder_of(name, work) for phase in new for name in phase}
    return [
        [
            name
            for name in phase
            if name in lacking
            or (
                name.endswith(f"/{GENERATOR}")
                and track.folder_of(name, work) in needed
                and not is_trained(track.folder_of(name, work))
            )
        ]
        for phase, lacking in zip(phases, new, strict=True)
    ]


def run_all(given: argparse.Namespace, todo: list[list[str]], results: Results) -> None:
    """Run what is not done, phase by phase, and keep each cell as soon as it is there."""
    # Spawned, since torch's threads do not survive a fork; one cell a process, so that memory and
    # thread pools end with it.
    with ProcessPoolExecutor(
        given.workers, mp_context=get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        place = Place(given.work, resolve_device(given.device))
        for phase in todo:
            futures = {
                pool.submit(cell, given.track, name, given.mnist, given.on, place): name
                for name in phase
            }
            for done, future in enumerate(as_completed(futures), 1):
                found = future.result()
                results.add(futures[future], found)
                shown = {key: found[key] for key in ("accuracy", "acsa") if key in found}
                print(
                    f"{done}/{len(phase)} {futures[future]} {found['seconds']:.0f} s {shown}",
                    file=sys.stderr,
                    flush=True,
                )


def main() -> None:
    """Run a track, or show what is there."""
    parser = argparse.ArgumentParser(description="Do the images help? Three tracks on MNIST.")
    parser.add_argument("--track", choices=TRACKS, required=True)
    parser.add_argument("--mnist", type=Path, help="Folder of the four IDX files.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="Cells at once, a thread each.")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:N.")
    parser.add_argument("--on", choices=("test", "choosing"), default="test")
    parser.add_argument("--work", type=Path, default=WORK, help="Where generators are kept.")
    parser.add_argument("--anew", action="store_true", help="Forget what was measured before.")
    parser.add_argument("--table", action="store_true", help="Run nothing; show what is there.")
    given = parser.parse_args()
    if given.mnist is None and not given.table:
        parser.error("--mnist is missing; name the folder of the four IDX files.")
    if given.seeds < 1 or given.workers < 1:
        parser.error("--seeds and --workers are 1 or more.")
    track = import_module(f"benchmarks.quality.track_{given.track.lower()}")
    name = given.track if given.on == "test" else f"{given.track}-{given.on}"
    results = Results(name, track.SETTINGS, anew=given.anew)
    if not given.table:
        todo = missing(track, track.phases(given.seeds), results, given.work)
        run_all(given, todo, results)
    print("\n".join(track.table(results.cells)))
    print(json.dumps({"track": given.track, "on": given.on, "cells": len(results.cells)}))


if __name__ == "__main__":
    main()
