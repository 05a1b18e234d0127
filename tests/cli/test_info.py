import json
import os

import torch


def test_table(cli, tmp_path):
    done = cli("info", "--data", "photos")
    assert done.returncode == 0
    for word in ("CPU", "Memory", "Accelerators", "Versions", "Decoders", "Disk", "Defaults", torch.__version__):
        assert word in done.stdout
    assert f"{tmp_path / 'photos'}: " in done.stdout
    assert "\x1b" not in done.stdout


def test_json(cli, tmp_path):
    (tmp_path / "my runs").mkdir()
    done = cli("info", "--json", env={"RESNETCTL_RUNS": "my runs", "RESNETCTL_DATA": "/nowhere/at all"})
    assert done.returncode == 0
    facts = json.loads(done.stdout)
    assert facts["cpu"]["usable_cores"] <= facts["cpu"]["logical_cores"] == os.cpu_count()
    assert facts["versions"]["torch"] == torch.__version__
    assert len(facts["accelerators"]) == max(torch.cuda.device_count(), len(facts["accelerators"]))
    assert "jpeg" in facts["decoders"]["torchcodec"]
    assert facts["disks"]["runs"] == {**facts["disks"]["runs"], "path": str(tmp_path / "my runs"), "exists": True}
    assert facts["disks"]["data"] == {**facts["disks"]["data"], "path": "/nowhere/at all", "exists": False}
    assert facts["workers"] >= 1


def test_a_file_is_no_data_root(cli, tmp_path):
    (tmp_path / "data").write_text("")
    done = cli("info")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""
