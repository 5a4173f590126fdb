"""The whole way on one machine: camera, agent, broker, ingest and store as processes, then the report."""
