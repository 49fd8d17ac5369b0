# syntax=docker/dockerfile:1
# One image for every process of datagen: api, worker, beat and db upgrade.
#
#   docker build -t datagen .
#   docker build -t datagen:cpu --build-arg TORCH_INDEX_URL=<an index of CPU-only torch wheels> .

ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim AS build
ARG TORCH_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/datagen
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
# torch first and in a layer of its own: it is large and changes seldom. With an index of CPU-only
# wheels the image shrinks by several gigabytes; without one, pip takes what it would take anyway.
RUN if [ -n "$TORCH_INDEX_URL" ]; then \
      /opt/datagen/bin/pip install --index-url "$TORCH_INDEX_URL" \
        "$(grep '^torch==' constraints.txt)" "$(grep '^torchvision==' constraints.txt)"; \
    else \
      /opt/datagen/bin/pip install -c constraints.txt torch torchvision; \
    fi
COPY datagen datagen
COPY workers workers
COPY migrations migrations
RUN /opt/datagen/bin/pip install -c constraints.txt .

FROM python:${PYTHON_VERSION}-slim
LABEL org.opencontainers.image.title="datagen" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/datagen datagen
COPY --from=build /opt/datagen /opt/datagen
ENV PATH="/opt/datagen/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    PYTHONSAFEPATH=1 \
    DATAGEN_HOME=/var/lib/datagen
USER datagen
WORKDIR /var/lib/datagen
VOLUME /var/lib/datagen
EXPOSE 8000
# Only the API answers HTTP; compose.yaml switches the check off for workers and beat.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=6 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["datagen"]
CMD ["api", "--host", "0.0.0.0", "--port", "8000"]
