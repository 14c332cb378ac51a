"""Data sovereignty in one library.

Each resident keeps their data in a vault that only they can open; a city learns aggregates, only through differential
privacy, only under a consent that the resident signed, and every use leaves a receipt that the resident can verify.
"""

from datasov import catalogue
from datasov.authority.record import ConsentRecord, check_record
from datasov.city import City
from datasov.errors import (
    BudgetExceededError,
    CollectionError,
    ConsentError,
    DatasovError,
    DecryptionError,
    DeniedError,
    IndexTakenError,
    InternalError,
    InvalidDataError,
    InvalidQueryError,
    MissingExtraError,
    PeerError,
    ProgrammeError,
    ProofError,
    SignatureError,
    StoreError,
    VerificationError,
    WitnessError,
)
from datasov.model.charter import Charter
from datasov.model.columns import Boolean, Category, Decimal, Integer, Timestamp
from datasov.model.consent import CityId, Consent
from datasov.model.derived import Exists
from datasov.model.parties import AggregatorId
from datasov.model.predicate import Predicate, col
from datasov.model.preview import Preview
from datasov.model.privacy import Loss, Trust, central, local, pure, two_server, zcdp
from datasov.model.programme import Programme
from datasov.model.purposes import Purpose
from datasov.model.query import Query, query
from datasov.model.release import Release
from datasov.model.schema import Key, Schema, bin, day, hour, month, unknown, week
from datasov.model.series import Series, SeriesRelease, series
from datasov.model.suggest import Bounds
from datasov.notices import Notice
from datasov.resident import Resident
from datasov.sql import sql
from datasov.tlog.receipt import Receipt

__version__ = "0.1.0"

__all__ = [
    "AggregatorId",
    "Boolean",
    "Bounds",
    "BudgetExceededError",
    "Category",
    "Charter",
    "City",
    "CityId",
    "CollectionError",
    "Consent",
    "ConsentError",
    "ConsentRecord",
    "DatasovError",
    "Decimal",
    "DecryptionError",
    "DeniedError",
    "Exists",
    "IndexTakenError",
    "Integer",
    "InternalError",
    "InvalidDataError",
    "InvalidQueryError",
    "Key",
    "Loss",
    "MissingExtraError",
    "Notice",
    "PeerError",
    "Predicate",
    "Preview",
    "Programme",
    "ProgrammeError",
    "ProofError",
    "Purpose",
    "Query",
    "Receipt",
    "Release",
    "Resident",
    "Schema",
    "Series",
    "SeriesRelease",
    "SignatureError",
    "StoreError",
    "Timestamp",
    "Trust",
    "VerificationError",
    "WitnessError",
    "bin",
    "catalogue",
    "central",
    "check_record",
    "col",
    "day",
    "hour",
    "local",
    "month",
    "pure",
    "query",
    "series",
    "sql",
    "two_server",
    "unknown",
    "week",
    "zcdp",
]
