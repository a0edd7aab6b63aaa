# Images without torch, compiler or root, with the model inside. Two of them:
#
#     docker build --tag plateblur .                                    # the service, the default
#     docker build --tag plateblur-runs --target runs .                 # `plateblur blur`, Ray
#     docker build --tag plateblur-runs:cuda --target runs --build-arg DEVICE=cuda .
#
# See docs/howto/service.md and compose.yaml for the first, docs/howto/kubernetes.md for the others.
FROM python:3.11-slim-bookworm AS source
WORKDIR /src
COPY pyproject.toml requirements.lock README.md LICENSE THIRD_PARTY.md ./
COPY plateblur plateblur
RUN python -m venv /venv

FROM source AS build-service
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check -c requirements.lock ".[serve]"

# ONNX Runtime for GPUs is the same module from another package; it brings CUDA's libraries along, so
# that the machine needs its driver alone.
FROM source AS build-runs
ARG DEVICE=cpu
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check -c requirements.lock \
        ".[exact,kuberay]" \
    && if [ "$DEVICE" = cuda ]; then \
        version=$(sed -n 's/^onnxruntime==//p' requirements.lock) \
        && /venv/bin/pip uninstall --yes --quiet onnxruntime \
        && /venv/bin/pip install --no-cache-dir --disable-pip-version-check -c requirements.lock \
            "onnxruntime-gpu[cuda,cudnn]==$version"; \
    fi

FROM python:3.11-slim-bookworm AS base
RUN useradd --uid 10001 --create-home plateblur \
    && install -d -o plateblur -g plateblur -m 700 /data
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1

# wget is what KubeRay's probes call.
FROM base AS runs
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build-runs /venv /venv
ENV RAY_USAGE_STATS_ENABLED=0 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["plateblur"]

FROM base AS service
COPY --from=build-service /venv /venv
ENV PLATEBLUR_MODE=production \
    PLATEBLUR_DATA_DIR=/data
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz')"]
ENTRYPOINT ["plateblur", "serve", "--host", "0.0.0.0"]
