"""A worker process: a model in, predictions out over its socket, and its end."""

import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
import pytest

from ml.features import model as features
from ml.train import model as network
from tests.ml.serve.models import (
    list_files,
    write_features,
    write_gather,
    write_hog,
    write_network,
    write_onnx,
)
from tests.ml.serve.workers import WorkerProcess, worker
from tests.ml.train.language import make_base
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def perceptron(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    folder = tmp_path_factory.mktemp("serve") / "perceptron"
    write_onnx(folder)
    with worker(folder, files=list_files(folder)) as started:
        started.wait_for("ready")
        yield started


def test_it_tells_its_stages_its_signature_and_its_memory(perceptron: WorkerProcess) -> None:
    stages = [report["stage"] for report in perceptron.reports if report["event"] == "stage"]
    assert stages == ["verify", "load", "warm_up"]
    ready = next(report for report in perceptron.reports if report["event"] == "ready")
    assert ready["signature"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert ready["is_batchable"]
    assert 10e6 < ready["memory_bytes"] < 1e9


def test_it_predicts_what_onnxruntime_itself_predicts(perceptron: WorkerProcess) -> None:
    rows = np.random.default_rng(2).standard_normal((5, 4)).astype(np.float32)
    path = perceptron.socket.parent / "perceptron" / "model.onnx"
    direct = onnxruntime.InferenceSession(path).run(None, {"x": rows})[0]
    with perceptron.asking() as asker:
        reply, outputs = asker.predict({"x": rows.tolist()})
        assert reply["ok"]
        assert reply["compute_seconds"] > 0
        np.testing.assert_array_equal(np.array(outputs["y"], np.float32), direct)

        tensor = {"name": "x", "datatype": "FP32", "shape": [5, 4], "size_bytes": rows.nbytes}
        asker.send(
            {"kind": "predict", "id": 2, "encoding": "tensors", "tensors": [tensor],
             "return": "tensors"}, rows.tobytes(),
        )  # fmt: skip
        reply, body = asker.receive()
        assert reply["tensors"] == [
            {"name": "y", "datatype": "FP32", "shape": [5, 3], "size_bytes": 60}
        ]
        np.testing.assert_array_equal(np.frombuffer(body, np.float32).reshape(5, 3), direct)


def test_a_bare_list_is_the_input_of_a_model_with_one(perceptron: WorkerProcess) -> None:
    with perceptron.asking() as asker:
        _, named = asker.predict({"x": [[1, 2, 3, 4]]})
        _, bare = asker.predict([[1, 2, 3, 4]])
    assert named == bare


@pytest.mark.parametrize(
    ("inputs", "header", "code", "word"),
    [
        ({"z": [[1]]}, {}, "invalid_input", "takes x"),
        ({}, {}, "invalid_input", "missing"),
        ({"x": [[1, 2]]}, {}, "invalid_input", "[-1, 4]"),
        ({"x": [[1, 2, 3, "4"]]}, {}, "invalid_input", "must hold numbers"),
        ({"x": [[1, 2, 3, 1e300]]}, {}, "invalid_input", "FP32 cannot"),
        ({"x": [[1, 2], [3]]}, {}, "invalid_input", "ragged"),
        ({"x": [[0] * 4]}, {"outputs": ["z"]}, "invalid_input", "gives y"),
        ({"x": [[0] * 4]}, {"timeout_seconds": -1}, "invalid_input", "timeout_seconds"),
        ({"x": [[0] * 4] * 5000}, {}, "too_many_rows", "4096"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    perceptron: WorkerProcess, inputs: object, header: dict[str, object], code: str, word: str
) -> None:
    with perceptron.asking() as asker:
        reply, _ = asker.predict(inputs, **header)
    assert (reply["ok"], reply["code"]) == (False, code)
    assert word in reply["message"]


def test_the_socket_is_for_its_own_user_alone(perceptron: WorkerProcess) -> None:
    assert stat.S_IMODE(perceptron.socket.stat().st_mode) == 0o600
    connections = psutil.Process(perceptron.process.pid).net_connections("inet")
    assert connections == []


def test_nonsense_on_a_connection_closes_that_connection_only(perceptron: WorkerProcess) -> None:
    with perceptron.asking() as rude, perceptron.asking() as asker:
        rude._socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(EOFError):
            rude.receive()
        assert asker.predict({"x": [[0, 0, 0, 0]]})[0]["ok"]


def test_many_requests_of_one_connection_share_batches(perceptron: WorkerProcess) -> None:
    with perceptron.asking() as asker:
        asker.send({"kind": "stats", "id": "before"})
        before, _ = asker.receive()
        for number in range(500):
            asker.send({"kind": "predict", "id": number}, b'{"x": [[1, 2, 3, %d]]}' % number)
        replies = [asker.receive()[0] for _ in range(500)]
        asker.send({"kind": "stats", "id": "after"})
        after, _ = asker.receive()
    assert {reply["id"] for reply in replies} == set(range(500))
    assert all(reply["ok"] for reply in replies)
    assert after["requests"] - before["requests"] == 500
    assert after["batches"] - before["batches"] < 500


def test_one_bad_request_does_not_fail_its_neighbours(tmp_path: Path) -> None:
    write_gather(tmp_path / "gather")
    with worker(tmp_path / "gather") as started:
        started.wait_for("ready")
        with started.asking() as asker:
            for number in range(200):
                place = 10 if number == 100 else number % 10
                asker.send({"kind": "predict", "id": number}, b'{"x": [%d]}' % place)
            replies = {reply["id"]: reply for reply, _ in (asker.receive() for _ in range(200))}
    bad = replies.pop(100)
    assert bad["code"] == "compute_failed"
    assert all(reply["ok"] for reply in replies.values())


def test_a_network_answers_as_its_own_code_does(tmp_path: Path) -> None:
    folder = write_network(tmp_path / "network")
    rows = [
        {"x": 1.5, "colour": "red"},
        {"x": None, "colour": 7},
        {"x": -2, "colour": None},
    ]
    direct = network.predict(folder, rows)
    with worker(folder, files=list_files(folder)) as started:
        started.wait_for("ready")
        with started.asking() as asker:
            reply, outputs = asker.predict(rows)
    assert reply["ok"], reply
    assert outputs["label"] == [answer["label"] for answer in direct]
    assert outputs["probability"] == [answer["probability"] for answer in direct]
    shares = [list(answer["probabilities"].values()) for answer in direct]
    assert outputs["probabilities"] == shares


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("table", [{"x": 1.5, "colour": "red"}, {"x": None, "colour": None}]),
        ("text", [{"body": "good"}, {"body": "a cruel thing"}, {"body": None}]),
    ],
)
def test_a_classical_model_answers_as_its_own_code_does(
    tmp_path: Path, kind: str, rows: list[dict[str, object]]
) -> None:
    folder = write_features(tmp_path / kind, kind)
    direct = features.predict(folder, rows)
    with worker(folder, files=list_files(folder)) as started:
        assert started.wait_for("ready")["is_batchable"]
        with started.asking() as asker:
            reply, outputs = asker.predict(rows)
    assert reply["ok"], reply
    assert outputs["label"] == [answer["label"] for answer in direct]
    assert outputs["probability"] == [answer["probability"] for answer in direct]


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "model")
    files = list_files(tmp_path / "model")
    path.write_bytes(path.read_bytes() + b" ")
    with worker(tmp_path / "model", files=files) as started:
        refused = started.wait_for("refused")
        assert "was changed" in refused["message"]
        assert started.process.wait(30) == 65


def test_a_file_that_was_not_registered_is_refused(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model")
    files = list_files(tmp_path / "model")
    (tmp_path / "model" / "more").write_text("x")
    with worker(tmp_path / "model", files=files) as started:
        assert "more lies" in started.wait_for("refused")["message"]


def test_a_model_that_takes_more_memory_than_it_may_is_refused(tmp_path: Path) -> None:
    write_hog(tmp_path / "hog")
    with worker(tmp_path / "hog", memory_bytes=4 * 2**30) as started:
        refused = started.wait_for("refused")
        assert "alloc" in refused["message"], refused


def test_weights_beside_the_model_are_read(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model", external="weights.bin")
    with worker(tmp_path / "model") as started:
        started.wait_for("ready")


def test_weights_outside_of_the_folder_are_not(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "model", external="weights.bin")
    (tmp_path / "model" / "weights.bin").rename(tmp_path / "0123456.bin")
    path.write_bytes(path.read_bytes().replace(b"weights.bin", b"../0123456.bin"[:11]))
    with worker(tmp_path / "model") as started:
        assert "cannot load" in started.wait_for("refused")["message"]


def test_a_model_with_a_frozen_first_size_is_run_one_request_at_a_time(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model", first=1)
    with worker(tmp_path / "model") as started:
        assert not started.wait_for("ready")["is_batchable"]
        with started.asking() as asker:
            assert asker.predict({"x": [[0, 0, 0, 0]]})[0]["ok"]


def test_asked_to_end_it_answers_what_it_has_and_ends(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model")
    with worker(tmp_path / "model") as started:
        started.wait_for("ready")
        with started.asking() as asker:
            for number in range(50):
                asker.send({"kind": "predict", "id": number}, b'{"x": [[1, 2, 3, 4]]}')
            asker.send({"kind": "stats", "id": 50})
            replies = [asker.receive()[0]]
            while replies[-1]["id"] != 50:  # what was sent before it has been read
                replies.append(asker.receive()[0])
            os.kill(started.process.pid, signal.SIGTERM)
            replies += [reply for reply, _ in asker.receive_rest()]
        assert sorted(reply["id"] for reply in replies) == list(range(51))
        assert all("code" not in reply for reply in replies)
        assert started.process.wait(30) == 0


def test_whoever_goes_away_is_forgotten(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model", sizes=(4, 2048, 2048, 3))
    with worker(tmp_path / "model") as started:
        started.wait_for("ready")
        with started.asking() as leaving:
            for number in range(200):
                leaving.send({"kind": "predict", "id": number}, b'{"x": [[1, 2, 3, 4]]}')
        with started.asking() as asker:
            assert asker.predict({"x": [[0, 0, 0, 0]]})[0]["ok"]
            asker.send({"kind": "stats", "id": 0})
            stats, _ = asker.receive()
    assert stats["waiting"] == 0
    assert stats["requests"] + stats["cancelled"] >= 1


@pytest.fixture(scope="module")
def author(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    folder = make_base(tmp_path_factory.mktemp("serve") / "author", "causal", positions=64)
    with worker(folder, files=list_files(folder), memory_bytes=8 * 2**30) as started:
        started.wait_for("ready")
        yield started


def test_a_locked_worker_writes_text_and_streams_it(author: WorkerProcess) -> None:
    ready = author.reports[-1]
    assert ready["signature"]["context_length"] == 64
    assert ready["memory_bytes"] < 600e6
    asked = {"kind": "generate", "temperature": 0, "max_tokens": 20}
    with author.asking() as asker:
        asker.send({**asked, "id": 1}, b'"add 1 2: "')
        whole, body = asker.receive()
        assert whole["ok"]
        assert (whole["endings"], whole["completion_tokens"]) == (["length"], 20)
        asker.send({**asked, "id": 2, "stream": True}, b'"add 1 2: "')
        pieces = ""
        while not (frame := asker.receive())[0].get("is_last", True):
            pieces += frame[1].decode()
        assert [pieces] == json.loads(frame[1]) == json.loads(body)


def test_a_writing_worker_refuses_by_name(author: WorkerProcess) -> None:
    with author.asking() as asker:
        for header, body, code in (
            ({"kind": "predict"}, b"{}", "not_offered"),
            ({"kind": "generate"}, b'"%s"' % (b"long " * 100), "context_length_exceeded"),
            ({"kind": "generate", "penalty": 1}, b'"x"', "invalid_input"),
        ):
            asker.send({**header, "id": 1}, body)
            assert asker.receive()[0]["code"] == code


def test_who_hangs_up_is_not_written_on(author: WorkerProcess) -> None:
    with author.asking() as asker:
        before = stats_of(author)["cancelled"]
        for number in range(5):
            asker.send({"kind": "generate", "id": number, "stream": True, "count": 4}, b'"add"')
        asker.receive()  # they are being written

    def is_quiet() -> bool:
        now = stats_of(author)
        return now["cancelled"] > before and not now["waiting"]

    wait_until(is_quiet)
    assert not stats_of(author)["failed"]


def stats_of(started: WorkerProcess) -> dict[str, Any]:
    with started.asking() as asker:
        asker.send({"kind": "stats", "id": 1})
        return asker.receive()[0]


def test_adapters_without_their_base_are_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with worker(tmp_path / "adapter") as started:
        assert "without its base model" in started.wait_for("refused")["message"]
