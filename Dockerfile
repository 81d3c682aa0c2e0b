# Three images: --target coordinator (the migrator, too; no PyTorch), worker, dashboard
# (TensorBoard, too).
#
#   docker build --target worker -t trialfleet-worker:local .
#
# Settings of the build machine stay out of the images:
#   --build-arg BASE_IMAGE=…          a mirror's name of the base image
#   --build-arg TORCH_INDEX_URL=…     where PyTorch comes from; a CUDA index makes a CUDA image
#   --secret id=pip,src=pip.conf      pip's settings (a mirror, a proxy, a folder of wheels)
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_CACHE_DIR=1
# pip stays outside of the environment that it fills: no image needs it.
RUN python -m venv --without-pip /opt/venv
WORKDIR /build
COPY pyproject.toml constraints.txt deploy/image/requirements.py ./

# The dependencies of each image, in layers that only a change of the lock makes anew.
FROM build AS coordinator-dependencies
RUN --mount=type=secret,id=pip,target=/root/.config/pip/pip.conf \
    python requirements.py s3 metrics >requirements.txt \
 && pip --python /opt/venv/bin/python install --quiet --constraint constraints.txt --requirement requirements.txt \
 && find /opt/venv -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +

FROM coordinator-dependencies AS dashboard-dependencies
RUN --mount=type=secret,id=pip,target=/root/.config/pip/pip.conf \
    python requirements.py dashboard tensorboard >requirements.txt \
 && pip --python /opt/venv/bin/python install --quiet --constraint constraints.txt --requirement requirements.txt

FROM coordinator-dependencies AS worker-dependencies
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
# First and by itself, from its own index (or a folder of wheels in pip's settings): the general
# index would bring gigabytes of CUDA along. What a CUDA build needs besides comes with the rest.
RUN --mount=type=secret,id=pip,target=/root/.config/pip/pip.conf \
    pip --python /opt/venv/bin/python install -qq --no-deps --retries 1 --timeout 15 \
      --index-url "$TORCH_INDEX_URL" "$(python requirements.py worker | grep '^torch==')" \
 && python requirements.py worker >requirements.txt \
 && pip --python /opt/venv/bin/python install -qq --constraint constraints.txt \
      --extra-index-url "$TORCH_INDEX_URL" --retries 1 --timeout 15 --requirement requirements.txt \
 && cd /opt/venv/lib/python3*/site-packages \
 && rm -rf torch/test torch/include torch/share \
 && find torch/bin -type f ! -name torch_shm_manager -delete \
 && find . -type d \( -name tests -o -name test \) -not -path './torch/*' -prune -exec rm -rf {} +

# Our own code, apart from the dependencies: what a change of it sends to a registry is small.
FROM build AS code
RUN --mount=type=secret,id=pip,target=/root/.config/pip/pip.conf \
    python -m venv --without-pip /opt/setuptools \
 && pip --python /opt/setuptools/bin/python install --quiet --constraint constraints.txt setuptools
COPY . .
RUN --mount=type=secret,id=pip,target=/root/.config/pip/pip.conf \
    pip --python /opt/setuptools/bin/python wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels . \
 && pip --python /opt/venv/bin/python install --quiet --no-deps --target /opt/trialfleet /wheels/*.whl \
 && cp deploy/image/make_secrets.py /opt/trialfleet/bin/make-secrets \
 && cp deploy/image/healthy.py /opt/trialfleet/bin/healthy \
 && chmod 755 /opt/trialfleet/bin/* \
 && cp -r studies /opt/trialfleet/studies

# What every image is: no compiler, no pip settings, a user without rights, one process that hears
# its signals. The folders are there so that fresh volumes belong to that user.
FROM ${BASE_IMAGE} AS runtime
ENV PATH=/opt/trialfleet/bin:/opt/venv/bin:$PATH PYTHONPATH=/opt/trialfleet \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
RUN groupadd --gid 10001 trialfleet \
 && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin trialfleet \
 && install -d -o 10001 -g 10001 -m 700 /secrets \
 && install -d -o 10001 -g 10001 /models /secrets/postgres /secrets/owner \
      /secrets/coordinator /secrets/worker /secrets/dashboard /secrets/ca
WORKDIR /opt/trialfleet
USER 10001:10001
ENTRYPOINT ["trialfleet"]

FROM runtime AS worker
COPY --from=worker-dependencies /opt/venv /opt/venv
COPY --from=code /opt/trialfleet /opt/trialfleet
# Machine code for this kind of processor, so that a worker begins at once; on another kind it
# compiles again.
ENV NUMBA_CACHE_DIR=/opt/kernels
USER root
RUN install -d /opt/kernels && python -m worker.trainers.dqn.compiled && chmod -R a+rX /opt/kernels
USER 10001:10001
CMD ["worker"]

FROM runtime AS dashboard
COPY --from=dashboard-dependencies /opt/venv /opt/venv
COPY --from=code /opt/trialfleet /opt/trialfleet
EXPOSE 8080 6006
# Other containers reach it; other machines only if the port is published to them.
CMD ["dashboard", "--host", "0.0.0.0", "--expose"]

# The last stage, and so the one that `docker build .` makes.
FROM runtime AS coordinator
COPY --from=coordinator-dependencies /opt/venv /opt/venv
COPY --from=code /opt/trialfleet /opt/trialfleet
CMD ["--help"]
