# Emu3 on CPU, emu3-mini inside. Written with care, neither built nor run by us.
#   docker build -t emu3 .
#   mkdir -p outputs  # or Docker makes it, and root owns it
#   docker run --rm --user "$(id -u)" -e HOME=/tmp -v "$PWD/outputs:/data/outputs" emu3 \
#       img_gen --prompt "a red star"
FROM python:3.11-slim-bookworm

# g++ compiles the kernels on first use; libgomp is what MindSpore's wheel links to.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libgomp1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY . .
RUN pip install --no-cache-dir -c requirements.txt ".[video]"

RUN useradd --create-home emu3 && mkdir /data && chown emu3 /data
USER emu3
WORKDIR /data
ENV GLOG_v=3
ENTRYPOINT ["emu3"]
CMD ["--help"]
