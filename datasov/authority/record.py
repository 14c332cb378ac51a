"""The human-readable record of a consent, in Japanese and English: its hash stands in the token.

The fields are those that the Data Privacy Vocabulary's guide maps to ISO/IEC TS 27560:2023
(https://w3id.org/dpv/guides/consent-27560), in that document's terms; the standard itself is not public. Everything is
computed from the claims and from what the purpose is called, so a record can be made again wherever a token is, and one
that says anything else than its token does not verify. It names nobody: the record's identifier and the principal's
are those of the token, which only its holder and the city have.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from datasov.crypto.kdf import sha256
from datasov.errors import DatasovError, VerificationError
from datasov.model.consent import CityId, Claims
from datasov.model.document import canonical
from datasov.model.privacy import ATTO, NANO, Loss
from datasov.model.purposes import NAMESPACE, Purpose

Language: TypeAlias = Literal["ja", "en"]
SCHEMA = "https://w3id.org/dpv/schema/dpv-27560#record"
VERSION = "datasov consent record v1"
MAX_RECORD = 1024 * 1024
_JAPAN = dt.timezone(dt.timedelta(hours=9))


@dataclass(frozen=True, slots=True)
class ConsentRecord:
    """A record as canonical JSON, UTF-8: of :func:`make_record`, and compared by :func:`check_record`."""

    data: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of the record: 32 bytes, the token's `record` claim."""
        return sha256(self.data)

    @property
    def document(self) -> dict[str, Any]:
        """The record as JSON holds it."""
        found = json.loads(self.data)
        assert isinstance(found, dict)
        return found

    def text(self, language: Language = "ja") -> str:
        """The record in plain text, in Japanese or English."""
        return str(self.document["text"][language])

    def __str__(self) -> str:
        return self.text("ja") + "\n" + self.text("en")


def make_record(claims: Claims, purpose: Purpose) -> ConsentRecord:
    """The record of these claims, whatever their `record` claim is.

    Args:
        purpose: the claims' purpose, with what it is called.
    """
    if purpose.name != claims.purpose:
        raise VerificationError("the purpose is not the consent's: describe the one that it names")
    city = CityId.parse(claims.audience)
    body: dict[str, Any] = {
        "schema_version": SCHEMA, "version": VERSION,
        "record_id": "identity of the token that carries this record's hash",
        "pii_principal_id": "subject, or else issuer, of that token",
        "language": ["ja", "en"],
        "purpose": {**purpose.document(), "iri": purpose.iri, "label_ja": purpose.label("ja"),
                    "label_en": purpose.label("en")},
        "lawful_basis": NAMESPACE + "Consent", "consent_type": NAMESPACE + "ExplicitlyExpressedConsent",
        "event_state": NAMESPACE + "ConsentGiven", "valid_until": _time(claims.expires, dt.UTC),
        "pii_controllers": [{"name": city.name, "id": claims.audience}],
        "pii_information": [
            {"table": c.table, "schema": c.schema_digest.hex(), "columns": list(c.columns)} for c in claims.coverage
        ],
        "sensitive_pii": list(claims.special),
        "processing_method": {
            "trust": claims.trust.text, "loss": {**claims.loss.document(), "delta": str(claims.loss.delta)},
        },
        "processing_locations": [claims.place], "storage_locations": [claims.place],
        "jurisdiction": claims.jurisdiction, "recipient_third_parties": [],
        "text": {"ja": _japanese(claims, purpose, city), "en": _english(claims, purpose, city)},
    }  # fmt: skip
    return ConsentRecord(canonical(body))


def check_record(record: ConsentRecord | bytes, claims: Claims) -> ConsentRecord:
    """The record, once it is the very one whose hash these claims carry, and says what they say in both languages.

    Raises:
        VerificationError: it is another record, or one that its own token contradicts.
    """
    data = record.data if isinstance(record, ConsentRecord) else record
    if not isinstance(data, bytes) or len(data) > MAX_RECORD or not claims.record or sha256(data) != claims.record:
        raise VerificationError("not the record that the consent was signed with: ask its holder for that one")
    try:
        told = json.loads(data)["purpose"]
        again = make_record(claims, Purpose(told["name"], told["within"], told["ja"], told["en"]))
    except (DatasovError, ValueError, TypeError, KeyError, RecursionError):
        raise VerificationError("the record cannot be read: ask its maker for one of this version") from None
    if again.data != data:
        raise VerificationError("the record says other things than the consent: do not rely on it, and grant anew")
    return again


_READ = {
    "central": ("行を読むのは管理者のプロセスだけです", "rows are read by the controller's process and by nobody else"),
    "two_server": (
        "行は保管庫から出ません。独立した二つのサーバーが、どちらにも読めない断片を足し合わせます",
        "rows do not leave the vault: two independent servers add encrypted shares, and neither can read one",
    ),
    "local": (
        "行は保管庫から出ません。端末が雑音を加えた回答だけを送り、正しい値は誰にも読めません",
        "rows do not leave the vault: the device sends its answer with noise, and nobody reads the true one",
    ),
}


def _english(claims: Claims, purpose: Purpose, city: CityId) -> str:
    lines = [
        "Record of a consent",
        f"To whom (controller): {city.name}",
        f"  its id: {claims.audience}",
        f"For what (purpose): {_called(purpose, 'en')}",
        *([f"  as defined at: {purpose.iri}"] if purpose.iri else []),
        "Which data:",
        *(f"  {c.table}: {', '.join(c.columns)}" for c in claims.coverage),
        "Of these, of the special class (sensitive data): " + (", ".join(claims.special) or "none"),
        "How: aggregates only, with noise (differential privacy); " + _READ[claims.trust.name][1],
        f"  trust model: {claims.trust.text}",
        f"At what cost to privacy, at most, over all answers for this purpose: {_loss(claims.loss)}",
        f"Where it may be processed and stored: {claims.place}",
        f"Under the law of: {claims.jurisdiction}",
        f"Until: {_time(claims.expires, dt.UTC)}; the data leaves the pool after that",
        "Who else receives the data: nobody; released aggregates are public",
        "How to end it earlier: revoke it in the vault; it is free, and what was answered stays answered",
    ]
    return "\n".join(lines) + "\n"


def _japanese(claims: Claims, purpose: Purpose, city: CityId) -> str:
    lines = [
        "同意の記録",
        f"誰に（管理者）: {city.name}",
        f"  識別子: {claims.audience}",
        f"何のために（利用目的）: {_called(purpose, 'ja')}",
        *([f"  目的の定義: {purpose.iri}"] if purpose.iri else []),
        "どのデータを:",
        *(f"  {c.table}: {', '.join(c.columns)}" for c in claims.coverage),
        "そのうち要配慮個人情報: " + (", ".join(claims.special) or "なし"),
        "どのように: 雑音を加えた集計値としてのみ（差分プライバシー）。" + _READ[claims.trust.name][0],
        f"  信頼モデル: {claims.trust.text}",
        f"この目的のすべての回答を合わせたプライバシー損失の上限: {_loss(claims.loss)}",
        f"処理・保管の場所: {claims.place}",
        f"適用される法域: {claims.jurisdiction}",
        f"いつまで: {_time(claims.expires, _JAPAN)}（その後データは集計対象から外れます）",
        "ほかに受け取る者: なし（公表された集計値は誰でも見られます）",
        "途中でやめるには: 保管庫で撤回します。費用はかからず、すでに出た回答は残ります",
    ]
    return "\n".join(lines) + "\n"


def _called(purpose: Purpose, language: str) -> str:
    label = purpose.label(language)
    return label if label == purpose.name else f"{label} ({purpose.name})"


def _loss(loss: Loss) -> str:
    """The loss, every digit of it, with its unit: one resident added or removed."""
    name = "rho" if loss.measure == "zcdp" else "epsilon"
    delta = f", delta = {_exact(loss.delta, ATTO)}" if loss.delta else ""
    return f"{name} = {_exact(loss.nano, NANO)}{delta} ({'zCDP' if loss.measure == 'zcdp' else 'pure'})"


def _exact(units: int, one: int) -> str:
    whole, part = divmod(units, one)
    digits = len(str(one)) - 1
    return str(whole) + (f".{part:0{digits}d}".rstrip("0") if part else "")


def _time(seconds: int, zone: dt.tzinfo) -> str:
    return dt.datetime.fromtimestamp(seconds, zone).isoformat()
