"""Rehearse a run: python -m tests.fake_gemini --port 8089, then promptreel run ... --base-url http://127.0.0.1:8089"""

import argparse
import signal
import threading
from pathlib import Path

from tests.fake_gemini import FakeGemini, read_faults

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fake_gemini", description=__doc__)
    parser.add_argument("--port", type=int, default=8089, help="0 selects a free port (default: %(default)s)")
    parser.add_argument(
        "--latency", type=float, default=0.5, metavar="SECONDS", help="latency of each call (default: %(default)s)"
    )
    parser.add_argument("--spread", type=float, default=0.0, metavar="SIGMA", help="lognormal spread of the latency")
    parser.add_argument("--rps", type=float, metavar="N", help="accepted calls per second; others get status 429")
    parser.add_argument(
        "--processing", type=float, default=0.0, metavar="SECONDS", help="time that an upload is PROCESSING"
    )
    parser.add_argument("--uploads-fail", action="store_true", help="uploads become FAILED")
    parser.add_argument(
        "--faults", type=Path, metavar="FILE", help="JSON list of rules, see tests/fake_gemini/faults.py"
    )
    parser.add_argument("--ledger", type=Path, metavar="FILE", help="write every call to this file as a JSON line")
    options = parser.parse_args()
    try:
        faults = read_faults(options.faults.read_text()) if options.faults else []
    except (OSError, ValueError) as error:
        parser.error(f"--faults {options.faults}: {error}")
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda number, frame: stop.set())
    server = FakeGemini(
        port=options.port,
        ledger_file=options.ledger,
        faults=faults,
        latency_s=options.latency,
        spread=options.spread,
        rps=options.rps,
        processing_s=options.processing,
        uploads_fail=options.uploads_fail,
    )
    with server:
        print(f"{server.base_url}  (any GEMINI_API_KEY works)", flush=True)
        stop.wait()
