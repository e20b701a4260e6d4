"""Run benchmarks: `python -m benchmarks` lists them, `python -m benchmarks NAME [OPTIONS]` runs one."""

from __future__ import annotations

import importlib
import logging
import sys

NAMES = (
    "shot_detection",
    "decode_cost",
    "media_truth",
    "model_calls",
    "interim_commits",
    "resume",
    "overlap",
    "memory",
    "local_models",
    "api_requests",
    "api_pages",
    "page_speed",
    "search_speed",
    "filter_speed",
    "sql_queries",
)


def main() -> int:
    """List the benchmarks, or run the named one with its options."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        for name in NAMES:
            summary = (importlib.import_module(f"benchmarks.{name}").__doc__ or "").splitlines()[0]
            print(f"{name:15} {summary}")
        print(
            "\nrun one with: python -m benchmarks NAME [OPTIONS]; show its options with: python -m benchmarks NAME --help"
        )
        return 0
    name = sys.argv[1].replace("-", "_")
    if name not in NAMES:
        print(f"no benchmark {sys.argv[1]!r}; use one of {', '.join(NAMES)}", file=sys.stderr)
        return 2
    logging.disable(logging.WARNING)  # libraries warn about optional parts that are not installed
    sys.argv[:2] = [f"python -m benchmarks {name}"]
    importlib.import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
