# The image of Dataflow's workers, and of a flex template. docs/machines.md has the commands.
# Python and Beam are those of requirements/gcp.txt, which a test compares.
FROM apache/beam_python3.11_sdk:2.77.0 AS worker
WORKDIR /alignset
COPY requirements/gcp.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/gcp.txt
COPY pyproject.toml README.md LICENSE beam_runner.py ./
COPY alignset alignset
COPY pipeline pipeline
COPY transforms transforms
COPY train train
RUN pip install --no-cache-dir --no-deps . && pip check
# Compiles the kernels now, or each worker would wait for them.
RUN python -m alignset.compile_kernels
# Beam's own entry point starts the workers; it is that of the image we began with.

FROM gcr.io/dataflow-templates-base/python311-template-launcher-base:latest AS launcher

FROM worker AS template
COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher
ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/alignset/beam_runner.py
ENTRYPOINT ["/opt/google/dataflow/python_template_launcher"]
