"""The dashboard for programs: JSON under `/api/v1`, its OpenAPI document, and the models that its client shares."""
