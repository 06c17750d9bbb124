"""Apache Kafka without Docker, for tests and local runs."""
