# The image of server, worker and one-off commands: `docker build -t reelcheck .`
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/reelcheck \
 && /opt/reelcheck/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY flows flows
COPY models models
COPY page page
COPY reelcheck reelcheck
COPY storage storage
COPY tasks tasks
# hatchling is in the lock: nothing is fetched to build the wheel.
RUN /opt/reelcheck/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
 && /opt/reelcheck/bin/pip install --no-cache-dir --no-deps /dist/*.whl

FROM python:3.11-slim-bookworm
# What the shared libraries of OpenCV and MediaPipe are linked with.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libegl1 libgl1 libgles2 libglib2.0-0 \
 && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 10001 reelcheck && install --directory --owner reelcheck /srv/reelcheck
COPY --from=build /opt/reelcheck /opt/reelcheck
COPY prefect.yaml /srv/reelcheck/prefect.yaml
ENV PATH=/opt/reelcheck/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PREFECT_RESULTS_PERSIST_BY_DEFAULT=false \
    PREFECT_RESULTS_DEFAULT_SERIALIZER=json \
    REELCHECK_FACE_MODEL=/models/face_detection_full_range_sparse.tflite
USER reelcheck
WORKDIR /srv/reelcheck
ENTRYPOINT ["reelcheck"]
CMD ["--help"]
