"""The Batch API: jobs with inlined requests or a request file, their progress, cancellation and answers."""

import asyncio
import json
import random
import secrets
import time
from dataclasses import dataclass, field

from starlette.responses import JSONResponse, Response

from tests.fake_gemini.faults import error_body
from tests.fake_gemini.request_body import content_hash, text_of, with_camel_case_keys

_GRPC_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 429: 8, 500: 13, 503: 14, 504: 4}
_CANCELLED = 1


@dataclass
class Job:
    """A batch job.

    Attributes:
        requests: (key, body).
        answers: key -> {"response": ...} or {"error": ...}, as far as the requests have been executed.
        ended: the state after the end, e.g. "SUCCEEDED"; None before.
    """

    name: str
    display_name: str
    model: str
    requests: list
    is_file: bool
    created_at: float = field(default_factory=time.monotonic)
    answers: dict = field(default_factory=dict)
    ended: str | None = None


class BatchService:
    """Jobs of a fake service. A request is executed, and billed, when its turn has come in the duration of its job.

    Attributes:
        duration_s: from the creation of a job to its end.
        outcome: the state in which jobs end: "SUCCEEDED", "FAILED" or "EXPIRED"; a failed job executes nothing.
        stuck_after: jobs execute this many requests and then neither continue nor end; None disables it.
        page_size: maximum number of jobs in one page of the list.
    """

    def __init__(self, service, duration_s=0.0):
        self._service = service
        self.duration_s = duration_s
        self.outcome = "SUCCEEDED"
        self.stuck_after = None
        self.page_size = 3
        self.jobs = {}
        self._random = random.Random(1)

    async def create(self, model, body):
        """Create a job. With the fault `applies` it exists although the call fails."""

        def apply():
            batch = body["batch"]
            source = batch["inputConfig"]
            if "fileName" in source:
                stored = self._service.files.files[source["fileName"]]
                lines = [json.loads(line) for line in bytes(stored.content).splitlines()]
                requests = [(line["key"], with_camel_case_keys(line["request"])) for line in lines]
            else:
                parts = source["requests"]["requests"]
                requests = [(part["metadata"]["key"], part["request"]) for part in parts]
            name = f"batches/{secrets.token_hex(6)}"
            job = Job(name, batch["displayName"], model, requests, "fileName" in source)
            self.jobs[name] = job
            return self._describe(job, with_output=False, executes=False)

        return await self._answer("batchGenerateContent", model, apply)

    async def list(self, request):
        def apply():
            first = int(request.query_params.get("pageToken") or 0)
            size = min(self.page_size, int(request.query_params.get("pageSize") or self.page_size))
            jobs = list(self.jobs.values())
            page = {"operations": [self._describe(job, with_output=False) for job in jobs[first : first + size]]}
            return page | ({"nextPageToken": str(first + size)} if first + size < len(jobs) else {})

        return await self._answer("listBatches", "", apply)

    async def handle(self, name):
        """Get or cancel a job, or download its answers."""
        name, _, action = name.partition(":")
        if action == "download":
            return await self._download(name)
        job = self.jobs.get(name)
        if job is None:
            return JSONResponse(error_body(404, f"Batch {name} not found"), status_code=404)
        if action == "cancel":
            return await self._answer("cancelBatch", job.model, lambda: self._cancel(job))
        return await self._answer("getBatch", job.model, lambda: self._describe(job))

    async def _download(self, name):
        def apply():
            job = self.jobs[f"batches/{name.removeprefix('files/answers-')}"]
            lines = [json.dumps({"key": key} | answer) for key, answer in self._shuffled(job)]
            return Response("\n".join(lines) + "\n", media_type="application/octet-stream")

        return await self._answer("download", "", apply)

    async def _answer(self, method, model, apply):
        service = self._service
        entry = service.ledger.begin(method, model, "", "")
        fault = service._fault(entry)
        await asyncio.sleep(fault.delay)
        applied = apply() if fault.status is None or fault.applies else None
        if fault.status is not None:
            return service._error(entry, fault.status, fault.message, fault=fault.label, retry_delay=fault.retry_delay)
        service.ledger.end(entry, 200)
        return applied if isinstance(applied, Response) else JSONResponse(applied)

    def _cancel(self, job):
        self._execute(job)
        if job.ended is None:
            job.ended = "CANCELLED"
            for key, _ in job.requests[len(job.answers) :]:
                job.answers[key] = {"error": {"code": _CANCELLED, "message": "cancelled"}}
        return {}

    def _execute(self, job):
        """Execute the requests whose turn has come."""
        if job.ended is not None:
            return
        elapsed = time.monotonic() - job.created_at
        is_over = elapsed >= self.duration_s
        if self.outcome == "FAILED":
            job.ended = "FAILED" if is_over else None
            return
        if self.stuck_after is not None:
            self._execute_until(job, self.stuck_after)
            return
        due = len(job.requests) if is_over else int(len(job.requests) * elapsed / self.duration_s)
        due = due // 2 if self.outcome == "EXPIRED" else due
        self._execute_until(job, due)
        if is_over:
            job.ended = self.outcome

    def _execute_until(self, job, due):
        for key, body in job.requests[len(job.answers) : due]:
            job.answers[key] = self._execute_one(job.model, body)

    def _execute_one(self, model, body):
        service = self._service
        body = {name: value for name, value in body.items() if name != "model"}
        entry = service.ledger.begin("generateContent", model, content_hash(model, body), text_of(body))
        entry.tier = "batch"
        fault = service._fault(entry, service._count_try(entry.content))
        if fault.status is not None:
            service.ledger.end(entry, fault.status, fault=fault.label)
            error = error_body(fault.status, fault.message, retry_delay=fault.retry_delay)["error"]
            return {"error": error | {"code": _GRPC_CODES[fault.status]}}
        try:
            answer, facts = service._generate(model, body, fault)
        except Exception as error:  # RejectedRequest; importing it would be circular
            service.ledger.end(entry, 400)
            return {"error": {"code": _GRPC_CODES[400], "message": str(error)}}
        service.ledger.end(entry, 200, fault=fault.label or None, **facts)
        return {"response": answer}

    def _describe(self, job, with_output=True, executes=True):
        if executes:
            self._execute(job)
        state = job.ended or "RUNNING"
        metadata = {
            "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
            "model": f"models/{job.model}",
            "displayName": job.display_name,
            "createTime": "2026-01-01T00:00:00Z",
            "name": job.name,
            "state": f"BATCH_STATE_{state}",
            "batchStats": {"requestCount": str(len(job.requests))},
        }
        if job.ended and with_output and job.answers:
            metadata["output"] = self._output(job)
        return {"name": job.name, "metadata": metadata, "done": job.ended is not None}

    def _output(self, job):
        if job.is_file:
            return {"responsesFile": f"files/answers-{job.name.removeprefix('batches/')}"}
        parts = [answer | {"metadata": {"key": key}} for key, answer in self._shuffled(job)]
        return {"inlinedResponses": {"inlinedResponses": parts}}

    def _shuffled(self, job):
        answers = list(job.answers.items())
        self._random.shuffle(answers)
        return answers
