"""One of two workers is killed; the other ends by itself, and both, started again, end as if nothing had been."""

import signal

import pytest
from support.distributed import STARTS, Cluster, run_together
from support.paths import TESTS
from support.runs import assert_same_run, settings, write_all

from tfvl.training.distributed import LOST_WORKER
from tfvl.training.run import checkpoint

KILLED_AFTER = 5  # of 8 steps; every second one is a checkpoint


@pytest.mark.slow
def test_a_killed_worker(tmp_path):
    root = write_all(tmp_path / "root")
    settings(root).write(root / "run.yaml")
    script, out, whole = TESTS / "support" / "distributed_train.py", tmp_path / "out", tmp_path / "whole"
    for start in range(STARTS):
        with Cluster([script, root, out, KILLED_AFTER], tmp_path / f"start {start}") as cluster:
            codes = cluster.wait()
        if (root / "killed").exists() or LOST_WORKER not in codes:
            break  # else the machine was too busy for TensorFlow's heartbeats
    assert codes == [LOST_WORKER, -signal.SIGKILL], cluster.said()
    errors = [line for line in cluster.logs[0].read_text().splitlines() if line.startswith("tfvl: One of")]
    assert len(errors) == 1
    assert errors[0].startswith("tfvl: One of the 2 workers is gone (")
    assert "Traceback" not in cluster.said()
    assert checkpoint.last(out / "checkpoints").state["step"] == KILLED_AFTER - 1
    assert not (out / "last").exists()

    said = run_together([script, root, out], tmp_path / "again")
    assert f"going on after step {KILLED_AFTER - 1} of 8" in said
    run_together([script, root, whole], tmp_path / "uninterrupted")
    assert_same_run(out, whole)
