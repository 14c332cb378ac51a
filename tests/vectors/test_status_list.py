"""The long examples of the Token Status List draft, of one bit an entry, in CBOR and JSON."""

from __future__ import annotations

import base64
import json
import re

import numpy as np

from datasov.authority import status
from tests.paths import vectors

INVALID = [0, 1993, 25460, 159495, 495669, 554353, 645645, 723232, 854545, 934534, 1000345]


def test_the_long_list_in_cbor():
    text = vectors("status_list", "status_list_encoding1_long_cbor.txt").read_text()
    values = status.read_cbor(bytes.fromhex("".join(text.split())))
    assert len(values) == 2**20
    assert np.flatnonzero(values).tolist() == INVALID
    assert set(values.tolist()) == {0, 1}


def test_the_long_list_in_json():
    text = vectors("status_list", "status_list_encoding1_long_json.txt").read_text()
    document = json.loads(re.sub(r"\n  (?=[A-Za-z0-9_-]+(\n|\"))", "", text))
    lst = base64.urlsafe_b64decode(document["lst"] + "==")
    assert np.flatnonzero(status.decompress(lst, document["bits"])).tolist() == INVALID
