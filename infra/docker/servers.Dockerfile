# MLflow's and Prefect's servers in the versions of constraints.txt. Built by infra/compose.yaml; the context is
# the repository, of which only that file is used.
FROM python:3.11.14-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true PREFECT_SERVER_ANALYTICS_ENABLED=false

COPY constraints.txt /tmp/constraints.txt
RUN pip install -c /tmp/constraints.txt mlflow flask-wtf boto3 psycopg2-binary prefect asyncpg "fastapi<0.151"

RUN useradd --create-home --uid 10001 miras
USER miras
WORKDIR /home/miras
