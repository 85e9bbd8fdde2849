"""A study on disk: its configuration, ledger, tables and files."""
