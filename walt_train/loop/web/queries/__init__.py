"""What pages and the API ask of the store: functions of an engine that give small structs, and nothing of the web."""
