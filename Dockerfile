# The service alone: no torch, no compiler, no root. See docs/howto/service.md and compose.yaml.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml requirements.lock README.md LICENSE THIRD_PARTY.md ./
COPY plateblur plateblur
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check -c requirements.lock ".[serve]"

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --no-create-home plateblur \
    && install -d -o plateblur -g plateblur -m 700 /data
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PLATEBLUR_MODE=production \
    PLATEBLUR_DATA_DIR=/data
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz')"]
ENTRYPOINT ["plateblur", "serve", "--host", "0.0.0.0"]
