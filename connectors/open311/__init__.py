"""Open311 GeoReport v2, both ways: departments and the public ask us, and we ask a city's own endpoint.

The standard: https://wiki.open311.org/GeoReport_v2/; what is ours of it, with examples: docs/open311.md.
"""
