"""The loop at home: ingest, store, demo. No torch at import."""
