# The environment that `make setup` makes, from the same lock files, for a user who is not root:
#   docker build --tag gradus .
#   docker run --interactive --tty --name gradus gradus
# The second command is the default run; docs/container.md has others.
FROM python:3.11-slim-bookworm AS base
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git libgomp1 make \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 gradus \
 && install --directory --owner=gradus /gradus
WORKDIR /gradus

# with a compiler for llama.cpp; the devcontainer stops here
FROM base AS development
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
USER gradus
COPY --chown=gradus Makefile ./
COPY --chown=gradus envs envs
COPY --chown=gradus scripts/__init__.py scripts/
COPY --chown=gradus scripts/common scripts/common
COPY --chown=gradus scripts/setup scripts/setup
# where pip finds a CPU build of torch; without it, it takes the CUDA build, which is 4 GB larger
ARG PIP_EXTRA_INDEX_URL
RUN --mount=type=cache,target=/home/gradus/.cache/pip,uid=1000,gid=1000 make setup

FROM base
USER gradus
# jobs on a cluster start `python` in a folder of their own (docs/clusters.md)
ENV PATH=/gradus/.venv/bin:$PATH
COPY --from=development --chown=gradus /gradus/.venv .venv
COPY --chown=gradus . .
CMD ["make"]
