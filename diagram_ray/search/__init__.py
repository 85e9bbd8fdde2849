"""Study files, the fidelity ladder, the ledger and the core of the search: neither torch nor Ray."""
