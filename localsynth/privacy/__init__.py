"""The guarantee: secure noise, mechanisms, accountant, ledger and certificate."""
