"""What the catalogue says of a table beside its schema: labels, the law behind a special column, what a column follows.

None of it is in a schema's document: two tables that differ in labels alone have one digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from datasov.model.schema import Schema

GROUNDS = {
    "creed": "信条: Act on the Protection of Personal Information, article 2(3)",
    "social-status": "社会的身分: article 2(3)",
    "illness": "病歴: article 2(3)",
    "crime": "犯罪の経歴: article 2(3)",
    "victim": "犯罪により害を被った事実: article 2(3)",
    "disability": "心身の機能の障害: Cabinet Order, article 2 no. 1",
    "examination": "健康診断その他の検査の結果: Cabinet Order, article 2 no. 2",
    "treatment": "指導, 診療, 調剤が行われたこと: Cabinet Order, article 2 no. 3",
    "criminal-procedure": "刑事事件に関する手続: Cabinet Order, article 2 no. 4",
    "juvenile": "少年の保護事件に関する手続: Cabinet Order, article 2 no. 5",
    "caution": "not named by the law; special here out of caution, since it tells of poverty, frailty or the like",
}
"""Why a column is of the special class (要配慮個人情報). Race (人種) is left out: no table may hold it."""


@dataclass(frozen=True, slots=True)
class Label:
    """A name in English and one in Japanese."""

    en: str
    ja: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A table of the catalogue.

    Attributes:
        schema: what residents put under and cities ask.
        label: the table's name in both languages.
        task: the standardised municipal task (標準化対象事務) that the table belongs to; "" where to none.
        labels: of each column, as pairs.
        grounds: of each special column, a name of :data:`GROUNDS`, as pairs.
        follows: of columns, the law, code list or data model whose categories it takes, as pairs.
        values: of each Category, the labels of its values, as pairs of pairs.
    """

    schema: Schema
    label: Label
    task: str
    labels: tuple[tuple[str, Label], ...]
    grounds: tuple[tuple[str, str], ...]
    follows: tuple[tuple[str, str], ...]
    values: tuple[tuple[str, tuple[tuple[str, Label], ...]], ...]

    @property
    def special(self) -> tuple[str, ...]:
        """The columns of the special class, in order: what `grant(..., special=...)` names."""
        return tuple(name for name, _ in self.grounds)

    def column_label(self, column: str) -> Label:
        """The label of a column; InvalidQueryError where there is none of that name."""
        self.schema.column(column)
        return dict(self.labels)[column]

    def value_labels(self, column: str) -> Mapping[str, Label]:
        """The labels of a Category's values, in order; none for columns of other types."""
        self.schema.column(column)
        return MappingProxyType(dict(dict(self.values).get(column, ())))
