from __future__ import annotations

import json
from pathlib import Path

from commands import Datagen


def test_quick_report_on_the_bundled_model_says_what_it_is_worth(
    tmp_path: Path,
) -> None:
    out = tmp_path / "worth"
    ran = Datagen().run(
        "report", "mnist", "--quick", "--images", "2000", "--out", str(out), "--json",
        environment={"DATAGEN_HOME": str(tmp_path / "home")}, seconds=1500,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json == json.loads((out / "report.json").read_text())
    assert (out / "report.html").is_file()
    assert ran.json["not_computed"] == []
    assert ran.json["fidelity"]["agreement"] > 0.9
    assert ran.json["fidelity"]["evaluator"]["agreement"] > 0.97
    assert ran.json["verdict"]["outcome"] in {"helps", "no_measurable_difference", "hurts"}
