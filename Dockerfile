# fp4-dse in a container, with PyTorch's CPU build by default.
#
#   docker build -t fp4-dse .                            CPU
#   docker build -t fp4-dse:cuda --build-arg TORCH=cuda .  CUDA; run it with: docker run --gpus all ...
#   docker run --rm --shm-size=2g -v "$PWD:/sweep" fp4-dse run sweep.yaml
# BASE: an image with Python 3.11 or newer, its venv module and apt; another one than Docker's, where that is out of reach
ARG BASE=python:3.12-slim
FROM $BASE

ARG TORCH=cpu
WORKDIR /opt/fp4-dse
# g++: what Triton compiles its launchers with
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
COPY . .
RUN TORCH=$TORCH tools/setup_env.sh all
ENV PATH=/opt/fp4-dse/.venv/bin:$PATH
WORKDIR /sweep
ENTRYPOINT ["dse"]
CMD ["--help"]
