"""Kill -9 the pipeline in every stage, let it finish, and compare its tables with those of an undisturbed run.

    .venv/bin/python scripts/fault_kill.py [--config conf/examples/demo.yaml] [--set KEY=VALUE ...] [--seed 1]
    .venv/bin/python scripts/fault_kill.py --stages clean --kills 10 --config conf/examples/online_retail.yaml

Prints one line per kill and one per table; exits with 1 if any table differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from deltalake import DeltaTable

from dlmine_spark.pipelines.graph import upstream_of

STAGES = upstream_of(["report"])
"""Those of a run, in its order."""
VOLATILE = ["run_id", "_run_id", "_ingested_at", "seconds"]
"""Columns that say when and by which run a row was made, not what it holds."""


def main() -> int:
    """Run undisturbed and disturbed, compare, and say what was found."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="dlmine-kill-") as scratch:
        calm, killed = Path(scratch) / "calm", Path(scratch) / "killed"
        _finish(arguments, calm)
        _kill_in_every_stage(arguments, killed)
        _finish(arguments, killed)
        differing = [table for table in sorted({*_tables(calm), *_tables(killed)}) if not _same(table, calm, killed)]
        if arguments.keep:
            shutil.copytree(scratch, arguments.keep, dirs_exist_ok=True)
    print(f"{len(differing)} tables differ" + (f": {', '.join(differing)}" if differing else ""))
    return 1 if differing else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="conf/examples/demo.yaml")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES, help="where to kill it")
    parser.add_argument("--kills", type=int, default=1, help="how often in each stage")
    parser.add_argument("--longest", type=float, default=6.0, help="seconds after a stage's start: the latest kill")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    parser.add_argument("--keep", type=Path, help="folder to keep both lakehouses in")
    return parser.parse_args()


def _command(arguments: argparse.Namespace, lakehouse: Path, *, force: bool = False) -> list[str]:
    settings = [*arguments.settings, f"lakehouse.root={lakehouse}"]
    program = [sys.executable, "-c", "from dlmine_spark.cli import main; main()"]
    options = [part for setting in settings for part in ("--set", setting)]
    # What comes after the last stage of interest would only take time.
    last = max(arguments.stages, key=STAGES.index)
    command = "run" if last == STAGES[-1] else last
    return [*program, command, "--json-logs", "--config", arguments.config, *options, *(["--force"] if force else [])]


def _finish(arguments: argparse.Namespace, lakehouse: Path) -> None:
    done = subprocess.run(_command(arguments, lakehouse), stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"the pipeline failed with exit code {done.returncode}: {_last_line(done.stderr)}")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _kill_in_every_stage(arguments: argparse.Namespace, lakehouse: Path) -> None:
    moments = random.Random(arguments.seed)
    for stage in [stage for stage in STAGES if stage in arguments.stages for _ in range(arguments.kills)]:
        process = subprocess.Popen(
            # A stage that was over before it could be killed would not start again.
            _command(arguments, lakehouse, force=arguments.kills > 1),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if not _wait_for_start(process, stage):
            raise SystemExit(f"{stage} never started: the pipeline failed before it (exit code {process.wait()})")
        delay = moments.uniform(0.2, arguments.longest)
        time.sleep(delay)
        code = process.poll()
        if code is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        elif code:
            assert process.stderr is not None
            raise SystemExit(f"{stage} failed with exit code {code}: {_last_line(process.stderr.read())}")
        print(f"{stage}: {'killed' if code is None else 'was already over'} {delay:.1f} s after its start", flush=True)


def _wait_for_start(process: subprocess.Popen[str], stage: str) -> bool:
    assert process.stderr is not None
    for line in process.stderr:
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("stage") == stage and event.get("event") == "started":
            return True
    return False


def _tables(root: Path) -> list[str]:
    logs = sorted(root.glob("*/*/_delta_log"))
    return [f"{log.parent.parent.name}.{log.parent.name}" for log in logs if log.parent.parent.name != "ops"]


def _same(table: str, calm: Path, killed: Path) -> bool:
    lacking = [root.name for root in (calm, killed) if not (root / table.replace(".", "/")).exists()]
    if lacking:
        print(f"{table}: MISSING in the {lacking[0]} lakehouse", flush=True)
        return False
    one, other = (_rows(root / table.replace(".", "/")) for root in (calm, killed))
    verdict = "same" if _equal(one, other) else "DIFFERENT"
    print(f"{table}: {len(one)} and {len(other)} rows, {verdict}", flush=True)
    return verdict == "same"


def _rows(path: Path) -> pd.DataFrame:
    frame = DeltaTable(path).to_pandas()
    frame = frame.drop(columns=[name for name in VOLATILE if name in frame.columns])
    # Sorted by what is not a measured number, so that a difference in the last digit does not move rows.
    keys = frame.loc[:, frame.dtypes != np.float64].astype(str)
    return frame.loc[keys.sort_values(list(keys.columns)).index].reset_index(drop=True)


def _equal(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    try:
        pd.testing.assert_frame_equal(one, other, check_exact=False, rtol=1e-6, atol=1e-6)
    except AssertionError as difference:
        print(" ".join(str(difference).split())[:300])
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
