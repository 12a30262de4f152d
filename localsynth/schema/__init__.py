"""Columns, constraints and conditions: the algebra of values that a row may take."""
