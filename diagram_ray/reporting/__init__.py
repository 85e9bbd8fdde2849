"""Pages: the report of one or several studies, the audit of a dataset, a study while it runs."""
