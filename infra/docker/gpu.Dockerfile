# Training, features and evaluation on NVIDIA GPUs, in the versions of constraints.txt. It holds what miras needs and no
# miras: every job brings its own code. The context is the repository (infra/aws/README.md has the commands).
#
#   docker build -f infra/docker/gpu.Dockerfile -t miras:gpu .
#   docker build -f infra/docker/gpu.Dockerfile -t miras:gpu-flash --build-arg FLASH=yes .   # an hour of compiling
ARG FLASH=no

FROM python:3.11.14-slim-bookworm AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt pyproject.toml /tmp/
# PyPI's torch for Linux is the one with CUDA; it brings the CUDA libraries of its own version. Orchestrator, tracker,
# servers and pages stay out: no job imports them (import rules in pyproject.toml).
RUN pip install -c /tmp/constraints.txt torch torchvision \
 && python -c "import re, tomllib; project = tomllib.load(open('/tmp/pyproject.toml', 'rb'))['project']; \
out = {'dvc', 'fastapi', 'great_expectations', 'mlflow', 'prefect', 'starlette', 'uvicorn'}; \
name = lambda need: re.split('[^A-Za-z0-9_-]', need)[0]; \
print('\n'.join([n for n in project['dependencies'] if name(n) not in out] + ['boto3']))" > /tmp/needs.txt \
 && DS_BUILD_OPS=0 pip install -c /tmp/constraints.txt -r /tmp/needs.txt

# flash-attn compiles against torch and needs nvcc: a stage that is built only when asked for. miras itself uses torch's
# scaled_dot_product_attention, which has such kernels; this is for networks of your own.
FROM packages AS flash-no
RUN mkdir /wheels

FROM nvidia/cuda:13.0.1-devel-ubuntu24.04 AS cuda
FROM packages AS flash-yes
ARG FLASH_VERSION=2.8.3
COPY --from=cuda /usr/local/cuda /usr/local/cuda
ENV CUDA_HOME=/usr/local/cuda MAX_JOBS=4
RUN apt-get update && apt-get install -y --no-install-recommends g++ ninja-build git && rm -rf /var/lib/apt/lists/* \
 && pip install packaging wheel setuptools \
 && pip wheel --no-deps --no-build-isolation -w /wheels "flash-attn==${FLASH_VERSION}"

FROM flash-${FLASH} AS flash

FROM packages
RUN --mount=type=bind,from=flash,source=/wheels,target=/wheels \
    if ls /wheels/*.whl >/dev/null 2>&1; then pip install -c /tmp/constraints.txt /wheels/*.whl; fi
# The host's driver is mounted into the container where these are set.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=true HF_HUB_DISABLE_TELEMETRY=1
