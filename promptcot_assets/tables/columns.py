"""Columns: type, meaning, whether a value may be missing, and the rows or models that the value names.

A column that several tables have in one meaning is declared here once. No column holds a wall-clock value: the same
inputs, settings and seed give the same rows. Times are in the `lineage` view.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """One column of a table.

    unique: the column names the row. rows_of: the tables, one or several, whose row's id the column holds (in a column
    `..._ids`, a JSON list of them). names_model: it holds the id ("role/version") of the model that wrote, judged or
    scored the row, or a procedure's name.
    """

    name: str
    type: pa.DataType
    comment: str
    nullable: bool = False
    unique: bool = False
    rows_of: tuple[str, ...] = ()
    names_model: bool = False

    @property
    def field(self) -> pa.Field:
        """The column as Arrow, the lake and the catalogue have it."""
        says = {"comment": self.comment} | ({"unique": "true"} if self.unique else {})
        return pa.field(self.name, self.type, self.nullable, says)


def text(name: str, comment: str) -> Column:
    return Column(name, pa.string(), comment)


def maybe_text(name: str, comment: str) -> Column:
    return Column(name, pa.string(), comment, nullable=True)


def integer(name: str, comment: str) -> Column:
    return Column(name, pa.int64(), comment)


def maybe_integer(name: str, comment: str) -> Column:
    return Column(name, pa.int64(), comment, nullable=True)


def real(name: str, comment: str) -> Column:
    return Column(name, pa.float64(), comment)


def maybe_real(name: str, comment: str) -> Column:
    return Column(name, pa.float64(), comment, nullable=True)


def flag(name: str, comment: str) -> Column:
    return Column(name, pa.bool_(), comment)


def maybe_flag(name: str, comment: str) -> Column:
    return Column(name, pa.bool_(), comment, nullable=True)


def texts(name: str, comment: str) -> Column:
    return Column(name, pa.list_(pa.string()), comment)


def maybe_texts(name: str, comment: str) -> Column:
    return Column(name, pa.list_(pa.string()), comment, nullable=True)


def maybe_integers(name: str, comment: str) -> Column:
    return Column(name, pa.list_(pa.int64()), comment, nullable=True)


def maybe_reals(name: str, comment: str) -> Column:
    return Column(name, pa.list_(pa.float64()), comment, nullable=True)


def row_id(name: str, comment: str, of: tuple[str, ...] = ()) -> Column:
    """The column that names a row; `of`: the table whose row it is about, where the id is that one's."""
    return Column(name, pa.string(), comment, unique=True, rows_of=of)


def refers(name: str, comment: str, to: tuple[str, ...]) -> Column:
    """The id of a row of one of the tables `to`."""
    return Column(name, pa.string(), comment, rows_of=to)


def maybe_refers(name: str, comment: str, to: tuple[str, ...]) -> Column:
    return Column(name, pa.string(), comment, nullable=True, rows_of=to)


def model(name: str, comment: str) -> Column:
    return Column(name, pa.string(), comment, names_model=True)


def maybe_model(name: str, comment: str) -> Column:
    return Column(name, pa.string(), comment, nullable=True, names_model=True)


domain = text("domain", "maths, code or a procedural domain")
problem_id = refers("problem_id", "content hash of domain and problem text", to=("seed_problems", "problems"))
seeds_own_set = text("concept_set_id", "hash of a seed's domain, concepts and level; not a key into concept_sets")
concept_set_id = refers("concept_set_id", "concept set it was written on", to=("concept_sets",))
concepts = texts("concepts", "what the problem is about, in the order given to the generator")
level = text("level", "difficulty level, part of the prompt")
problem = text("problem", "problem text x")
rationale = text("rationale", "rationale z: how a designer gets from the concepts to the problem (paper section 3)")
tokens = integer("tokens", "sampled tokens, the end token included")
seed = integer("seed", "seed of this one sample")
source = text("source", "procedural domain, file or hub data set that the seed is from")
