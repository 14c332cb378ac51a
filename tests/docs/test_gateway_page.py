"""The examples of docs/gateway.md run against a real server."""

import json
import re
import subprocess
from pathlib import Path

import datasov as ds
from datasov.gateway import schemas
from tests.gateways import served
from tests.helpers import PURPOSE, TRIPS
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "gateway.md").read_text()


def test_examples_of_the_page_run(tmp_path: Path) -> None:
    ds.City.open(tmp_path / "lakeside.city", budget=ds.zcdp(rho=1), purposes=[PURPOSE]).close()
    (tmp_path / "trips.json").write_text(json.dumps(TRIPS.document()))
    code = re.search(r"```python\n(.*?)```", PAGE, re.S)
    shell = re.search(r"```\n(TOKEN=.*?)```", PAGE, re.S)
    assert code
    assert shell
    with served(tmp_path / "lakeside.city", "--table", str(tmp_path / "trips.json"), "--tick-ms", "50") as url:
        made: dict[str, object] = {}
        exec(code[1], made)  # noqa: S102
        answer = made["ask"](url, (tmp_path / "lakeside.city.token").read_text().strip())  # type: ignore[operator]
        assert len(answer["rows"]) == 4
        assert answer["margin"] > 0
        script = shell[1].replace("http://127.0.0.1:8400", url)
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.startswith("district,count,count_low,count_high,km_sum")


def test_schemas_that_the_page_names_are_there() -> None:
    named = re.findall(r"/schemas/(\w+)`", PAGE)
    assert named
    assert set(named) <= set(schemas.COMPONENTS)
