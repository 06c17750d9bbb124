# The full image builds (some platforms have no wheel of faust-streaming and need a compiler), the slim one runs.
FROM python:3.12 AS build
ENV UV_NO_CACHE=1 UV_PYTHON=/opt/rapid/bin/python
WORKDIR /src
RUN pip install --no-cache-dir uv==0.13.9 && python -m venv --without-pip /opt/rapid
COPY requirements-runtime.lock ./
RUN uv pip sync --require-hashes --build-constraints requirements-runtime.lock requirements-runtime.lock
COPY pyproject.toml ./
COPY agents agents
COPY connectors connectors
COPY infra infra
COPY schemas schemas
RUN uv pip install --no-deps --no-build-isolation .

FROM python:3.12-slim
ENV PATH=/opt/rapid/bin:$PATH PYTHONUNBUFFERED=1 RAPID_HOME=/var/lib/rapid RAPID_LOG_FORMAT=json
RUN useradd --system --uid 10001 --home-dir /var/lib/rapid --create-home rapid \
  && install --directory --owner rapid /var/lib/rapid/drop # a volume there is rapid's, too
COPY --from=build /opt/rapid /opt/rapid
USER 10001
WORKDIR /var/lib/rapid
ENTRYPOINT ["rapid"]
CMD ["worker"]
