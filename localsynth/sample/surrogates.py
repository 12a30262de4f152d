"""Values for the columns that are never learned: numbers for identifiers, fake names for surrogates, results for derived ones.

Faker makes them from the seed and the row number alone. No original value is read, so none can be copied.
"""

from collections.abc import Sequence

from faker import Faker

from localsynth.schema.columns import Column, Derived, Formatted, Identifier, Record, Schema, Surrogate, Value


class Surrogates:
    """Completes rows of learned columns to rows of all columns."""

    def __init__(self, schema: Schema, seed: int, unit_column: str | None = None) -> None:
        """`unit_column`: with sequences, the unit column."""
        self.schema = schema
        self.seed = seed
        self._unit_column = unit_column
        self._has_surrogates = any(isinstance(column, Surrogate) for column in schema.columns)
        self._formulas = {column.name: schema.formula(column) for column in schema.columns if isinstance(column, Derived)}
        self._made_columns = [column for column in schema.columns if isinstance(column, Identifier | Surrogate | Derived)]
        self.needs = sorted({name for formula in self._formulas.values() for name in formula.names})
        """The learned columns that derived ones are calculated from."""
        self._faker = Faker("en_US")

    def complete(self, row_number: int, learned: Record, unit: int | None = None) -> Record:
        """All columns of the schema, in its order. Row `row_number` (from 0) always gets the same fake values.

        `unit`, with sequences: the number of the row's unit (from 0). All rows of a unit get the same fake name or address.
        Identifiers differ in each row, except the unit column.
        """
        # A file with months gets the first days of months, and so does the database.
        values = {column.name: self._rounded(column, learned[column.name]) for column in self.schema.learned()}
        values |= self._made(row_number, values, unit)
        return {column.name: values[column.name] for column in self.schema.columns}

    def columns(self, numbers: Sequence[int], needed: Sequence[Record]) -> dict[str, list[Value]]:
        """The columns that are never learned, of the rows with these numbers; `needed`: their values in the columns `needs`."""
        columns = [self.schema.column(name) for name in self.needs]
        rows = [
            self._made(number, {column.name: self._rounded(column, row[column.name]) for column in columns}, None)
            for number, row in zip(numbers, needed, strict=True)
        ]
        return {column.name: [row[column.name] for row in rows] for column in self._made_columns}

    def _made(self, row_number: int, learned: Record, unit: int | None) -> Record:
        """The values of the columns that are never learned."""
        if self._has_surrogates:
            self._faker.seed_instance(f"{self.seed}/{row_number if unit is None else unit}")
        record: Record = {}
        for column in self._made_columns:
            if isinstance(column, Identifier):
                number = unit if unit is not None and column.name == self._unit_column else row_number
                record[column.name] = column.numbered(number + 1)
            elif isinstance(column, Surrogate):
                record[column.name] = self._fake(column)
            else:
                record[column.name] = self._formulas[column.name].value(learned, column.decimals)
        return record

    @staticmethod
    def _rounded(column: Column, value: Value) -> Value:
        rounds = isinstance(column, Formatted) and not isinstance(column, Derived) and value is not None
        return column.rounded(value) if rounds else value  # type: ignore[union-attr]

    def _fake(self, column: Surrogate) -> Value:
        if column.of == "name":
            return str(self._faker.name())
        if column.of == "email":
            # example.org and the like are reserved and nobody's mailbox (RFC 2606).
            return str(self._faker.safe_email())
        if column.of == "phone":
            # 555-0100 to 555-0199 are reserved for fictional numbers.
            return f"{self._faker.random_int(201, 989)}-555-01{self._faker.random_int(0, 99):02d}"
        if column.of == "ip":
            # One of three networks that are reserved for documentation (RFC 5737).
            network = ("192.0.2", "198.51.100", "203.0.113")[self._faker.random_int(0, 2)]
            return f"{network}.{self._faker.random_int(1, 254)}"
        if column.of == "ipv6":
            # For documentation, too (RFC 3849).
            return f"2001:db8::{self._faker.random_int(1, 2**16 - 1):x}:{self._faker.random_int(1, 2**16 - 1):x}"
        return str(self._faker.address()).replace("\n", ", ")
