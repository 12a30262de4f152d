"""Values for the columns that are never learned: fresh numbers for identifiers, invented names and addresses for surrogates.

Invented by Faker from the seed and the row number alone; no original value is read, so none can be copied.
"""

from faker import Faker

from localsynth.schema.columns import Identifier, Record, Schema, Surrogate, Value

__all__ = ["Surrogates"]


class Surrogates:
    """Completes rows of learned columns to rows of all columns."""

    def __init__(self, schema: Schema, seed: int, unit_column: str | None = None) -> None:
        """`unit_column`: where rows are sequences, the column that says whose they are."""
        self.schema = schema
        self.seed = seed
        self._unit_column = unit_column
        self._invents = any(isinstance(column, Surrogate) for column in schema.columns)
        self._faker = Faker("en_US")

    def complete(self, row_number: int, learned: Record, unit: int | None = None) -> Record:
        """All columns of the schema, in its order. Row `row_number` (from 0) always gets the same invented values.

        `unit`, where rows are sequences: the number of the row's unit (from 0). All its rows get the same invented name or
        address; identifiers are fresh for each row, but for that of the unit.
        """
        if self._invents:
            self._faker.seed_instance(f"{self.seed}/{row_number if unit is None else unit}")
        record: Record = {}
        for column in self.schema.columns:
            if isinstance(column, Identifier):
                record[column.name] = (unit if unit is not None and column.name == self._unit_column else row_number) + 1
            elif isinstance(column, Surrogate):
                record[column.name] = self._invent(column)
            else:
                record[column.name] = learned[column.name]
        return record

    def _invent(self, column: Surrogate) -> Value:
        if column.of == "name":
            return str(self._faker.name())
        if column.of == "email":
            # example.org and its like can never be somebody's mailbox (RFC 2606).
            return str(self._faker.safe_email())
        if column.of == "phone":
            # 555-0100 to 555-0199 are set aside for invented numbers.
            return f"{self._faker.random_int(201, 989)}-555-01{self._faker.random_int(0, 99):02d}"
        return str(self._faker.address()).replace("\n", ", ")
