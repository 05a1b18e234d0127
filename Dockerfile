# docker build -t resnetctl .
# mkdir -p data runs     # or Docker makes them, and they belong to root
# docker run --rm -v "$PWD/data:/data" resnetctl prepare --source sample
# docker run --rm --gpus all --ipc=host -v "$PWD/data:/data" -v "$PWD/runs:/runs" resnetctl train --epochs 10
#
# --ipc=host because workers hand over batches through /dev/shm, of which Docker gives 64 MiB.
# Any image with torch >= 2.11 and torchvision serves as a base, such as a ROCm one or a CPU one.
ARG BASE_IMAGE=pytorch/pytorch:2.14.1-cuda13.0-cudnn9-runtime
FROM ${BASE_IMAGE}

# torch.compile: Triton compiles its launchers in C against Python.h, inductor its CPU kernels in C++, and the runtime
# images have no compiler
RUN export DEBIAN_FRONTEND=noninteractive \
    && version="$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" \
    && header="$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" \
    && apt-get update \
    && apt-get install -y --no-install-recommends gcc g++ libc6-dev \
    && if [ ! -e "$header" ]; then apt-get install -y --no-install-recommends "python$version-dev"; fi \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/*

# the image's own torch stays: it is built for the image's CUDA, and pip would fetch another
COPY pyproject.toml README.md LICENSE /src/
COPY completions /src/completions
COPY resnetctl /src/resnetctl
RUN python -c 'from importlib.metadata import version; print(*(f"{p}=={version(p)}" for p in ("torch", "torchvision")), sep="\n")' > /src/constraints.txt \
    && PIP_BREAK_SYSTEM_PACKAGES=1 python -m pip install --no-cache-dir --constraint /src/constraints.txt /src \
    && rm -rf /src \
    && resnetctl --version

COPY completions/resnetctl.bash /usr/share/bash-completion/completions/resnetctl
RUN echo '. /usr/share/bash-completion/completions/resnetctl' >> /etc/bash.bashrc

# the first user of most hosts, so that bind-mounted folders are writable; else docker run --user "$(id -u):$(id -g)"
ARG USER_ID=1000
RUN taken="$(getent passwd "$USER_ID" | cut -d: -f1)" \
    && if [ -n "$taken" ]; then userdel --remove "$taken" || userdel "$taken"; fi \
    && useradd --uid "$USER_ID" --create-home --shell /bin/bash resnetctl \
    && mkdir -p /data /runs \
    && chown resnetctl: /data /runs

# USER and the caches are for a --user that the image does not know: torch.compile asks for a name and a place to write
ENV RESNETCTL_DATA=/data \
    RESNETCTL_RUNS=/runs \
    USER=resnetctl \
    TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor \
    TRITON_CACHE_DIR=/tmp/triton
VOLUME ["/data", "/runs"]

# where the source of this very image is published, for those who publish it
ARG SOURCE=
LABEL org.opencontainers.image.title="resnetctl" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="${SOURCE}"
WORKDIR /home/resnetctl
USER resnetctl
ENTRYPOINT ["resnetctl"]
CMD ["--help"]
