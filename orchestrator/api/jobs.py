"""Calls for jobs: listing, progress, resuming."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from orchestrator.api.context import Body, accepted, body, current_orchestrator, number, operator
from orchestrator.db.models import JOB_STATES
from orchestrator.errors import RefusedError

blueprint = Blueprint("jobs", __name__)
_HIGHEST = 2**31 - 1
# A larger number is beyond the journal's column.
_JOB = f"<int(max={_HIGHEST}):job_id>"


@blueprint.get("/v2/jobs")
def listed() -> Response:
    """List jobs, newest first."""
    state = request.args.get("state")
    if state is not None and state not in JOB_STATES:
        raise RefusedError(f"state: must be one of {', '.join(JOB_STATES)}, not {state!r}")
    return jsonify({"jobs": current_orchestrator().journal.jobs(number("limit", 20, 1, 1000), state)})


@blueprint.get(f"/v2/jobs/{_JOB}")
def one(job_id: int) -> Response:
    """Return a job with its steps."""
    job = current_orchestrator().journal.job(job_id)
    if job is None:
        raise _unknown(job_id)
    return jsonify(job)


@blueprint.get(f"/v2/jobs/{_JOB}/log")
def log(job_id: int) -> Response:
    """Return the lines of progress after a number."""
    lines = current_orchestrator().journal.lines(job_id, number("after", 0, 0, _HIGHEST))
    if lines is None:
        raise _unknown(job_id)
    return jsonify(lines)


@blueprint.post(f"/v2/jobs/{_JOB}/resume")
def resume(job_id: int) -> tuple[Response, int]:
    """Resume a failed job."""
    body(Body)
    current_orchestrator().engine.resume(job_id, operator())
    return accepted(job_id)


def _unknown(job_id: int) -> RefusedError:
    return RefusedError(f"there is no job {job_id}", 404)
