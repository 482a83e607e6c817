"""The HTTP API: one router per resource, each a thin door to a service."""
