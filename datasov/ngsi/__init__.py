"""The city OS: releases as entities of NGSIv2 and NGSI-LD brokers, and entities of a household's devices into a vault.

A release is public, so everything here but :mod:`datasov.ngsi.intake` works on public values alone. The intake runs on
a resident's own device and knows no city. Publishing needs the extra `gateway` (httpx), which is imported when a broker
is first talked to. docs/ngsi.md gives the entities byte by byte.
"""

from datasov.ngsi.broker import Broker
from datasov.ngsi.entity import Entity, key_values, linked, normalized
from datasov.ngsi.intake import Taken, take
from datasov.ngsi.mapping import Mapping, meter
from datasov.ngsi.outbox import Outbox
from datasov.ngsi.projections import crowd_flow, observation
from datasov.ngsi.publishing import Piece, Report, pieces, publish
from datasov.ngsi.standing import follow
from datasov.ngsi.statistic import DPStatistic, of_release, of_step
from datasov.ngsi.subscription import notified, subscription

__all__ = [
    "Broker", "DPStatistic", "Entity", "Mapping", "Outbox", "Piece", "Report", "Taken", "crowd_flow",
    "follow", "key_values", "linked", "meter", "normalized", "notified", "observation", "of_release", "of_step",
    "pieces", "publish", "subscription", "take",
]  # fmt: skip
