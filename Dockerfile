# The image of every service of docker-compose.yml but PostgreSQL. It holds exactly what the lock names, Airflow
# included: Airflow's own image brings a hundred more packages, at versions that nothing here was tested with.
FROM python:3.12.11-slim-bookworm

RUN useradd --uid 50000 --create-home --shell /usr/sbin/nologin tidegate \
    && install -d -o tidegate -g tidegate /opt/tidegate /opt/tidegate/.tidegate

USER tidegate
WORKDIR /opt/tidegate
ENV PATH=/opt/tidegate/.venv/bin:$PATH PYTHONUNBUFFERED=1

# First what changes seldom: a change of code does not install the packages again.
COPY --chown=tidegate:tidegate pyproject.toml requirements.txt README.md ./
COPY --chown=tidegate:tidegate bin bin
COPY --chown=tidegate:tidegate src/tidegate/__init__.py src/tidegate/__init__.py
RUN UV_NO_CACHE=1 PIP_NO_CACHE_DIR=1 bin/bootstrap env

COPY --chown=tidegate:tidegate . .
