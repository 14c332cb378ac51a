"""What a generator gives: rows by resident, made up, and saying so wherever they go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from datasov.errors import InvalidQueryError, StoreError
from datasov.model.schema import Schema

RESIDENT = "resident"
"""The column of a simulation's frames that says whose a row is: a number from 0. No vault and no city ever has it."""

MARK = "simulated"
"""What metadata, pictures and names of cities carry: no row stands for a person."""


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """Rows of residents who do not exist.

    Attributes:
        name: of its generator. residents: how many. seed: the same seed gives the same rows.
        tables: each schema with a frame of its stored columns, as `put` takes them, behind :data:`RESIDENT`.
        assumptions: what the generator takes for granted, a sentence each; none of it is a fact about a place.
        truth: what no vault holds and only the generator knows, by name.
        unit: what each of the residents stands for: who has a vault, and whom a loss protects.
        place: which one, of a generator of several.
    """

    name: str
    seed: int
    residents: int
    tables: tuple[tuple[Schema, pl.DataFrame], ...]
    assumptions: tuple[str, ...]
    truth: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    unit: str = "residents"
    place: str = ""

    @property
    def about(self) -> dict[str, Any]:
        """Metadata: what made it, from which seed, under which assumptions, and that it is simulated."""
        return {
            MARK: True, "generator": f"datasov.sim.{self.name}", "seed": self.seed, "residents": self.residents,
            "unit": self.unit, "place": self.place, "assumptions": list(self.assumptions),
        }  # fmt: skip

    @property
    def title(self) -> str:
        """Its generator and its place, where it has one: what a folder of it is called."""
        return self.name + (f"-{self.place}" if self.place else "")

    def schema(self, name: str) -> Schema:
        """The schema of a table; InvalidQueryError where there is no such table."""
        return self._table(name)[0]

    def rows(self, name: str) -> pl.DataFrame:
        """The rows of a table, sorted by resident; InvalidQueryError where there is no such table."""
        return self._table(name)[1]

    def _table(self, name: str) -> tuple[Schema, pl.DataFrame]:
        for schema, rows in self.tables:
            if schema.name == name:
                return schema, rows
        raise InvalidQueryError(f"no table {name!r}: there are {', '.join(s.name for s, _ in self.tables)}")

    def by_resident(self) -> list[list[tuple[Schema, pl.DataFrame]]]:
        """For each resident the tables in which they have rows, without the column of residents."""
        found: list[list[tuple[Schema, pl.DataFrame]]] = [[] for _ in range(self.residents)]
        for schema, rows in self.tables:
            for own in rows.partition_by(RESIDENT, maintain_order=True):
                found[int(own[RESIDENT][0])].append((schema, own.drop(RESIDENT)))
        return found

    def write(self, folder: str | Path) -> None:
        """Write each table as Parquet whose metadata says that it is simulated, and `simulated.json` beside them.

        Raises:
            StoreError: the folder exists, or cannot be written.
        """
        path = Path(folder)
        try:
            path.mkdir(parents=True)
            about = json.dumps(self.about, ensure_ascii=False)
            path.joinpath("simulated.json").write_text(about + "\n", encoding="utf-8")
            for schema, rows in self.tables:
                rows.write_parquet(path / f"{schema.name}.parquet", metadata={MARK: "true", "about": about})
        except OSError as fault:
            raise StoreError("the folder exists or cannot be written: name a new one") from fault

    def __repr__(self) -> str:
        return f"<Simulation {self.name}, {MARK}: {self.residents:,} {self.unit}, seed {self.seed}>"
