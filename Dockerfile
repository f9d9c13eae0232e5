# A bundle as a service: `docker build -t retrank .`, then `docker run -v /path/to/bundles:/bundles:ro -p 8000:8000 retrank
# /bundles/NAME`. docs/deployment.md has the rest.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends g++
WORKDIR /source
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY src src
# On x86, the torch of PyPI comes with CUDA, some gigabytes. Where PyTorch's index of wheels for the CPU is given here,
# pip prefers its build of the same version.
ARG EXTRA_INDEX_URL=
RUN --mount=type=cache,target=/root/.cache/pip python -m venv /opt/retrank \
    && PIP_EXTRA_INDEX_URL="${EXTRA_INDEX_URL}" /opt/retrank/bin/python -m pip install --constraint constraints.txt \
        ".[serve,postgres,redis]"
# The kernels, for all processors of a family: the machine that builds and those that run the image must belong to it.
ARG NATIVE_FOR=x86-64-v3
RUN XDG_CACHE_HOME=/opt/kernels RETRANK_NATIVE_FOR="${NATIVE_FOR}" /opt/retrank/bin/python -c \
        "import sys; from retrank.core import native; sys.exit(native.retry().reason or 0)" \
    && chmod -R a+rX /opt/kernels

FROM python:${PYTHON}
ARG NATIVE_FOR=x86-64-v3
# What was built belongs to root: whoever runs the image can read it and not replace it.
COPY --from=build /opt/retrank /opt/retrank
COPY --from=build /opt/kernels /opt/kernels
RUN install --directory --owner=10001 --group=10001 --mode=700 /data
ENV PATH=/opt/retrank/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/opt/kernels \
    RETRANK_NATIVE_FOR=${NATIVE_FOR} \
    RETRANK_CACHE=/data/cache \
    RETRANK_SERVE_HOST=0.0.0.0 \
    RETRANK_SERVE_PORT=8000 \
    RETRANK_SERVE_STORE=/data/events.sqlite
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['RETRANK_SERVE_PORT'] + '/readyz', timeout=4)"]
ENTRYPOINT ["retrank", "serve"]
