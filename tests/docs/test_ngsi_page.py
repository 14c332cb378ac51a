"""docs/ngsi.md: it runs from top to bottom against the stand-in for Orion, and its entity is the one that is made."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import datasov as ds
from datasov import ngsi
from datasov.cli import main
from datasov.ngsi.describe import describe
from datasov.ngsi.mapping import read_mapping
from tests.helpers import few_lists
from tests.ngsi import example
from tests.orion import Orion, served
from tests.paths import ROOT

TEXT = (ROOT / "docs" / "ngsi.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|sh|json)\n(.*?)```", TEXT, re.DOTALL)
READINGS = [
    {"id": "urn:ngsi-ld:SmartMeteringObservation:ann:1", "type": "SmartMeteringObservation", "meterType": "Electricity",
     "totalConsumption": {"type": "Property", "value": 5021 + i / 2, "unitCode": "KWH",
                          "observedAt": f"2025-01-31T09:{30 * i:02}:00+09:00"}} for i in range(2)
]  # fmt: skip


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    few_lists(monkeypatch)
    (tmp_path / "pass").write_text("correct horse\n")
    (tmp_path / "meter.json").write_text(json.dumps(READINGS))
    orion, space, said = Orion(), dict[str, Any](), list[str]()
    with served(orion) as (url, _):
        for kind, block in BLOCKS:
            if kind == "python":
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    exec(block, space)  # noqa: S102
                said.append(out.getvalue())
            for line in block.splitlines() if kind == "sh" else ():
                arguments = shlex.split(line.replace("$ORION", url))
                if arguments[0] == "datasov":
                    assert main(arguments[1:]) == 0, line
                elif shutil.which(arguments[0]):
                    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, env=os.environ)
                    assert [e["key_mesh"] for e in json.loads(done.stdout)] == ["53394526"]
                said.append(capfd.readouterr().out)
    told = "\n".join(said)
    assert "1 releases delivered, as 2 entities; 0 were there already" in told
    assert '"delivered": 1, "known": 0' in told, "with a projection it is another delivery"
    assert "3 releases delivered, as 6 entities" in told
    assert "rho = 0.93" in told
    assert "1 rows put; 0 came before; 1 meters begin." in told
    assert "0.500" in told
    assert said[-1] == "1 0 1\n"
    kinds = [e["type"] for e in orion.held["city", "/dp"].values()]
    assert (kinds.count("DPStatistic"), kinds.count("CrowdFlowObserved")) == (2, 2)
    assert len(orion.held["city", "/now"]) == 4, "the question, and the series, in two squares each"


def test_the_entity_on_the_page_is_the_one_that_is_made() -> None:
    found = [block for kind, block in BLOCKS if kind == "json"]
    entity = describe(example())
    lines = [json.dumps({name: told}, ensure_ascii=False)[1:-1] for name, told in ngsi.normalized(entity).items()]
    assert [line.strip().rstrip(",") for line in found[0].splitlines()[1:-1]] == lines
    shown = json.loads(found[1])
    assert shown.items() <= ngsi.linked(entity).items()
    assert list(ngsi.linked(entity))[:4] == list(shown)[:4]
    assert read_mapping(found[2].encode()) == ngsi.meter()


def test_the_table_names_every_attribute_in_order_with_its_type() -> None:
    rows = re.findall(
        r"^\| (`[^|]*) \| ([^|]*) \|", TEXT.partition("## The entity")[2].partition("## Projections")[0], re.M
    )
    table = [(name, kinds) for cell, kinds in rows for name in re.findall(r"`(\w+)`", cell)]
    names = [name for name, _ in table]
    made = describe(example()).attributes
    wanted = [a.name if not a.name.startswith("key_") else "key_NAME" for a in made]
    listed = list(dict.fromkeys(wanted))
    assert [n for n in names if n != "epsilon"] == listed
    for attribute in made:
        kinds = dict(table)["key_NAME" if attribute.name.startswith("key_") else attribute.name]
        assert attribute.kind in kinds, attribute.name


def test_the_page_never_gives_a_release_a_name_that_it_must_not_have() -> None:
    for text in (TEXT, *(p.read_text(encoding="utf-8") for p in (ROOT / "datasov" / "ngsi").glob("*.py"))):
        assert "匿名加工" not in text
        assert "仮名加工" not in text
    assert ds.__version__
