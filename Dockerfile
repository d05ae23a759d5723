# docker build -t orpo .
# docker run --gpus all --shm-size 8g -v "$PWD/runs:/orpo/runs" orpo compare MODEL=phi-3-mini
# PyTorch with CUDA's libraries, although no GPU is seen while the image is built; the host needs NVIDIA's driver and its
# container toolkit.
FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install --yes --no-install-recommends gcc git libc6-dev make && rm -rf /var/lib/apt/lists/*
WORKDIR /orpo
COPY . .
RUN WITH_CUDA=1 make environment
# What is downloaded is kept beside the runs.
ENV HF_HOME=/orpo/runs/_hub
VOLUME /orpo/runs
ENTRYPOINT ["make"]
CMD ["help"]
