# The full image builds (some platforms have no wheel of faust-streaming and need a compiler), the slim one runs.
FROM python:3.12 AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/rapid
COPY requirements-runtime.lock ./
RUN /opt/rapid/bin/pip install --require-hashes -r requirements-runtime.lock
COPY pyproject.toml ./
COPY agents agents
COPY connectors connectors
COPY infra infra
COPY schemas schemas
RUN /opt/rapid/bin/pip install --no-deps --no-build-isolation .

FROM python:3.12-slim
ENV PATH=/opt/rapid/bin:$PATH PYTHONUNBUFFERED=1 RAPID_HOME=/var/lib/rapid RAPID_LOG_FORMAT=json
RUN useradd --system --uid 10001 --home-dir /var/lib/rapid --create-home rapid
COPY --from=build /opt/rapid /opt/rapid
USER rapid
WORKDIR /var/lib/rapid
ENTRYPOINT ["rapid"]
CMD ["worker"]
