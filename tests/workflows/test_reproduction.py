"""The whole way on the tiny recipe, with real processes: undisturbed, killed, interrupted, repeated.

One undisturbed run is shared. The other run is killed (SIGKILL) inside deduplication, tokenization and pretraining,
interrupted (SIGTERM) inside pretraining, and must end with the same manifests, byte for byte.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
TINY = CHECKOUT / "tests" / "recipes" / "tiny.toml"
SHORT = "models.bert-tiny.finetuning.race.sequence_length=40"  # two thirds of the tokens of all that runs

# Kills its own process as soon as one shard of a stage is finished (and its counts are written).
KILLER = """
import os
import data_pipeline.engine.resumable as resumable
from workflows import *

place = os.environ["KILL_IN"]
write = resumable.write_json

def write_then_die(path, value):
    write(path, value)
    if place in str(path):
        os.kill(os.getpid(), 9)

resumable.write_json = write_then_die
"""


class Runs:
    """luigi commands on one folder of artifacts, started from a folder that is not the checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.directory = folder / "artifacts"
        (folder / "killer.py").write_text(KILLER)

    def start(self, task: str, *options: str, kill_in: str = "") -> subprocess.Popen:
        module = "killer" if kill_in else "workflows"
        environment = {**os.environ, "KILL_IN": kill_in, "PYTHONPATH": f"{self.folder}:{CHECKOUT}"}
        command = [sys.executable, "-m", "luigi", "--module", module, task, "--recipe", str(TINY)]
        command += ["--runs", str(self.directory), "--cpu-workers", "1", "--set", SHORT, *options]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, task: str, *options: str, kill_in: str = "") -> tuple[int, str]:
        process = self.start(task, *options, kill_in=kill_in)
        output, _ = process.communicate(timeout=400)
        return process.returncode, output

    def processes(self) -> list[str]:
        """Command lines of all processes that work on this folder."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self.directory) in line:
                found.append(line)
        return found

    def no_process_is_left(self) -> bool:
        return wait_for(lambda: not self.processes(), seconds=5)

    def manifests(self) -> dict[str, bytes]:
        paths = sorted(self.directory.glob("*/*/manifest.json"))
        return {
            path.relative_to(self.directory).as_posix(): path.read_bytes()
            for path in paths
            if path.relative_to(self.directory).parts[0] != "latest"
        }

    def partial(self, stage: str) -> Path | None:
        return next(iter(self.directory.glob(f"{stage}/*.partial")), None)


def wait_for(condition: Callable[[], object], seconds: float = 120) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runs, str]:
    """A finished run from an empty folder, and its output."""
    runs = Runs(tmp_path_factory.mktemp("undisturbed"))
    code, output = runs.run("FullReproduction")
    assert code == 0, output
    return runs, output


def test_each_stage_is_one_line_and_the_summary_names_the_report(undisturbed: tuple[Runs, str]):
    _, output = undisturbed
    lines = output.splitlines()
    total = int(re.fullmatch(r"FullReproduction: (\d+) stages", lines[0])[1])
    numbers = [int(re.match(rf"\[ ?(\d+)/{total}\] ", line)[1]) for line in lines[1 : total + 1]]
    assert numbers == list(range(1, total + 1))
    assert f"{total} stages run, 0 already done" in lines[total + 1]
    assert lines[total + 2].endswith("latest/tiny/index.html")
    assert len(lines) == total + 3


def test_results_hold_every_measure_beside_its_baseline(undisturbed: tuple[Runs, str]):
    latest = undisturbed[0].directory / "latest" / "tiny"
    results = json.loads((latest / "results.json").read_text())
    assert results["recipe"] == "tiny"
    gpt2, bert = results["models"]["gpt2-tiny"], results["models"]["bert-tiny"]
    assert {"perplexity", "token_perplexity", "original_tokens", "tokens", "untrained_perplexity"} <= gpt2[
        "wikitext103"
    ].keys()
    assert {"accuracy", "correct", "total", "baseline_accuracy"} <= gpt2["lambada"].keys()
    assert {"all", "middle", "high"} == bert["race"]["accuracy"].keys()
    assert bert["race"]["chance"] == 0.25
    kept = [row["documents"] for row in results["corpus"]]
    assert [row["stage"] for row in results["corpus"]] == ["fetch", "clean", "decontaminate", "deduplicate"]
    assert kept[0] > kept[1] > kept[3]
    assert all(row["found"] == row["planted"] for row in results["planted"]), results["planted"]


def test_the_report_is_one_file_and_the_link_survives_a_move(undisturbed: tuple[Runs, str]):
    link = undisturbed[0].directory / "latest" / "tiny"
    assert not Path(os.readlink(link)).is_absolute()
    page = (link / "index.html").read_text()
    references = re.findall(r'(?:src|srcset|href)="([^"]{0,40})', page)
    outside = {one for one in references if not one.startswith(("#", "data:image/svg+xml;base64,"))}
    assert {"data.html", "data/clean-stories.html", "data/tokenize-tiny-gpt2.html"} <= outside
    assert all((link / one).is_file() for one in outside)
    assert "about the generated sample, not about English" in page
    assert "10.81" in page, "the paper's numbers"
    assert "words × 4/3" in page
    report = (link / "report.md").read_text()
    assert "## Beside the paper's numbers" in report
    # 60 steps: how the training ended
    assert re.search(r"\| gpt2-tiny \| [0-9,]+ \| 60 \| [0-9,]+ \| \*\*\d\.\d+\*\* \| – \|", report), report


def test_every_number_names_its_artifact_and_what_makes_it_again(undisturbed: tuple[Runs, str]):
    runs, _ = undisturbed
    latest = runs.directory / "latest" / "tiny"
    results = json.loads((latest / "results.json").read_text())
    page = (latest / "index.html").read_text()
    for one in results["artifacts"]:
        artifact = f"{one['stage']}/{one['name']}-{one['key'][:12]}"
        assert json.loads((runs.directory / artifact / "manifest.json").read_text())["key"] == one["key"]
        assert f'id="{artifact}"' in page
    lambada = next(one for one in results["artifacts"] if one["stage"] == "lambada")
    assert f'href="#lambada/gpt2-tiny-{lambada["key"][:12]}"' in page
    assert f"Evaluate --recipe {TINY} --set {SHORT} --task lambada --model gpt2-tiny" in page


def test_the_models_that_can_write_have_written(undisturbed: tuple[Runs, str]):
    latest = undisturbed[0].directory / "latest" / "tiny"
    models = json.loads((latest / "results.json").read_text())["models"]
    texts = [text["text"] for text in models["gpt2-tiny"]["texts"]]
    assert len(set(texts)) == 3 and all(texts), "three draws"
    assert "texts" not in models["bert-tiny"]
    assert "gpt2-tiny, text 3" in (latest / "index.html").read_text()


def test_every_stage_says_what_it_was_computed_on(undisturbed: tuple[Runs, str]):
    runs, _ = undisturbed
    machines = {
        path.parent.parent.name: json.loads(path.read_text())["segments"][-1]["machine"]
        for path in runs.directory.glob("*/*/run.json")
    }
    assert {"processor", "instruction_set", "threads", "device"} <= set.intersection(
        *map(set, machines.values())
    )
    ranks = {stage for stage, machine in machines.items() if "torch_cpu_capability" in machine}
    assert ranks == {"pretrain", "wikitext103", "lambada", "race"}


def test_timings_are_in_no_manifest(undisturbed: tuple[Runs, str]):
    manifests = undisturbed[0].manifests()
    outputs = [json.loads(text)["outputs"] for name, text in manifests.items() if name.startswith("report/")]
    assert [list(entry) for entry in outputs] == [["results.json"]]
    assert not any(b"seconds" in text for text in manifests.values())


def test_the_same_command_again_runs_nothing_in_seconds(undisturbed: tuple[Runs, str]):
    started = time.monotonic()
    code, output = undisturbed[0].run("FullReproduction")
    assert code == 0
    assert "nothing to run" in output
    assert "index.html" in output
    assert time.monotonic() - started < 20


def test_verify_finds_a_flipped_bit(undisturbed: tuple[Runs, str]):
    runs, _ = undisturbed
    command = [sys.executable, "-m", "workflows", "verify", "--runs", str(runs.directory)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    victim = next(runs.directory.glob("tokenize/*/corpus.bin"))
    content = bytearray(victim.read_bytes())
    content[10] ^= 1
    victim.write_bytes(content)
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    content[10] ^= 1
    victim.write_bytes(content)
    assert result.returncode == 1
    assert "corpus.bin: its sha256 differs" in result.stdout


def test_killed_and_interrupted_runs_resume_and_end_with_the_same_bytes(
    undisturbed: tuple[Runs, str], tmp_path: Path
):
    runs = Runs(tmp_path)
    # Any stage alone works on an empty folder; here it is killed after its first shard of deduplication …
    code, _ = runs.run("EvaluateLambada", kill_in="deduplicate/")
    assert code == -9
    # … and after its first shard of tokenization.
    code, output = runs.run("EvaluateLambada", kill_in="tokenize/")
    assert code == -9
    assert "resuming at shard" in output
    # The ranks of pretraining die with luigi, and go on from the last checkpoint.
    process = runs.start("EvaluateLambada")
    assert wait_for(lambda: list(runs.directory.glob("pretrain/*.partial/checkpoints/step-*")))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert runs.no_process_is_left(), runs.processes()
    code, output = runs.run("EvaluateLambada")
    assert code == 0
    assert re.search(r"resumes at step \d+ of", output), output
    # SIGTERM ends a training in order: a checkpoint, no process left, exit code 130.
    process = runs.start("PretrainBERT")
    assert wait_for(lambda: list(runs.directory.glob("pretrain/bert*.partial/metrics.jsonl")))
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in output
    assert runs.no_process_is_left(), runs.processes()
    state = json.loads(next(runs.directory.glob("pretrain/bert*.partial/state.json")).read_text())
    assert state["status"] == "stopped"
    # Two workers, and the bytes are those of the undisturbed run.
    code, output = runs.run("FullReproduction", "--workers", "2")
    assert code == 0, output
    expected = undisturbed[0].manifests()
    found = runs.manifests()
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
