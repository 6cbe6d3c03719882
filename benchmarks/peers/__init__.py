"""One module per peer; each exposes CONFIGURATIONS, best() and prepare()."""
