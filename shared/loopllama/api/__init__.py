"""The HTTP API: one module a resource, `app` puts them together."""
