"""A checkpoint of others is trusted only if its bytes say that it is whole."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.formats import fault_of


def safetensors(values: int = 300) -> bytes:
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]},
        "b": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [4 * values, 4 * values + 12]},
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(4 * values + 12)


def zipped(*names: str, packing: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", packing) as archive:
        for name in names or ("data", "policy.pth"):
            archive.writestr(name, os.urandom(700))
    return made.getvalue()


@pytest.fixture(scope="session")
def torch_file() -> bytes:
    """What torch.save writes."""
    torch = pytest.importorskip("torch")
    made = io.BytesIO()
    torch.save({"weight": torch.arange(500.0), "step": 7}, made)
    return made.getvalue()


def whole(folder: Path, content: bytes, name: str = "x") -> str:
    path = folder / name
    path.write_bytes(content)
    return fault_of(path, 7)


def model(folder: Path, step: int = 7) -> Path:
    """A folder as Hugging Face's Trainer writes it."""
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))
    (path / "model.safetensors").write_bytes(safetensors())
    (path / "optimizer.pt").write_bytes(zipped("archive/data.pkl", "archive/version", "archive/data/0"))
    return path


def test_whole_files_of_every_kind_are_trusted(tmp_path: Path, torch_file: bytes) -> None:
    """Told by their content: a name's ending is no evidence."""
    for content in (torch_file, zipped(), zipped(packing=zipfile.ZIP_DEFLATED), safetensors()):
        assert whole(tmp_path, content) == ""
    assert fault_of(model(tmp_path), 7) == ""


@pytest.mark.parametrize("kind", ["zip", "torch", "safetensors"])
def test_a_file_cut_anywhere_is_never_good(tmp_path: Path, torch_file: bytes, kind: str) -> None:
    """A crash or a full disk may end it at any byte."""
    content = {"zip": zipped(), "torch": torch_file, "safetensors": safetensors()}[kind]
    for length in {*range(0, len(content), 7), *range(40), *range(len(content) - 60, len(content))}:
        assert whole(tmp_path, content[:length]), f"cut at {length} of {len(content)}"


def test_a_flipped_bit_in_what_a_zip_holds_is_found(tmp_path: Path, torch_file: bytes) -> None:
    """Every byte of every member stands under a checksum."""
    for content in (zipped(), torch_file):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
        for member in members:
            start = member.header_offset + 30
            name, extra = struct.unpack_from("<HH", content, member.header_offset + 26)
            begin = start + name + extra
            for at in range(begin, begin + member.compress_size, 13):
                broken = bytearray(content)
                broken[at] ^= 1 << at % 8
                assert whole(tmp_path, bytes(broken)), f"{member.filename} at {at}"


def test_a_flipped_bit_in_the_lengths_of_safetensors_is_found(tmp_path: Path) -> None:
    """The first eight bytes say how long the header is."""
    content = safetensors()
    for bit in range(64):
        broken = bytearray(content)
        broken[bit // 8] ^= 1 << bit % 8
        assert whole(tmp_path, bytes(broken)), f"bit {bit}"


@given(st.binary(max_size=300), st.sampled_from([b"", b"PK\x03\x04", b"\x10" + bytes(7) + b"{"]))
@settings(max_examples=150, deadline=None)
def test_noise_is_never_good_and_never_harms(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, head: bytes
) -> None:
    """Whatever lies there by a checkpoint's name."""
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(head + noise)
    assert fault_of(path, 7)


@pytest.mark.parametrize(
    ("header", "tail"),
    [
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, 4),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, 8),
        (
            {
                "a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
                "b": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]},
            },
            6,
        ),
        ({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}, 5),
        ({"a": {"dtype": "U8", "shape": [-4], "data_offsets": [0, 4]}}, 4),
        ({"a": 3}, 0),
        ({}, 0),
        ([], 0),
    ],
)
def test_a_header_that_disagrees_with_the_file_is_found(tmp_path: Path, header: object, tail: int) -> None:
    """Sizes that do not fit, gaps, overlaps, bytes that no tensor names."""
    text = json.dumps(header).encode()
    assert whole(tmp_path, struct.pack("<Q", len(text)) + text + bytes(tail), "m.safetensors")


def test_a_bare_pickle_is_not_trusted(tmp_path: Path) -> None:
    """Nothing but running it would tell whether it is whole, and it is not run."""
    assert "without running it" in whole(tmp_path, b"\x80\x02}q\x00.")


def test_a_torch_file_without_its_pickle_is_not_trusted(tmp_path: Path) -> None:
    """Every member of it may be whole and one may be missing."""
    assert "data.pkl is missing" in whole(tmp_path, zipped("archive/data/0", "archive/version"))


def test_a_zip_that_unpacks_to_more_than_weights_do_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bomb costs us nothing."""
    monkeypatch.setattr("sentinel.formats.MOST_BYTES", 1000)
    assert "more than is unpacked" in whole(tmp_path, zipped())
    packed = zipped(packing=zipfile.ZIP_LZMA)
    monkeypatch.undo()
    assert "packed in a way" in whole(tmp_path, packed)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("trainer_state.json", "no trainer_state.json"),
        ("model.safetensors", "no model"),
    ],
)
def test_a_folder_lacks_nothing(tmp_path: Path, broken: str, why: str) -> None:
    """The trainer's state is written last, and the model must be there."""
    path = model(tmp_path)
    (path / broken).unlink()
    assert why in fault_of(path, 7)


def test_a_folder_of_another_step_than_its_name_is_not_trusted(tmp_path: Path) -> None:
    """A folder that was renamed or copied over by half would send a run to the wrong place."""
    assert "says step 7" in fault_of(model(tmp_path), 8)


def test_every_shard_that_the_index_names_must_be_there(tmp_path: Path) -> None:
    """Large models come in parts."""
    path = model(tmp_path)
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (path / "model.safetensors").rename(path / names["a"])
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert "model-00002-of-00002.safetensors is missing" in fault_of(path, 7)
    (path / names["b"]).write_bytes(safetensors()[:-1])
    assert names["b"] in fault_of(path, 7)
    (path / names["b"]).write_bytes(safetensors())
    assert fault_of(path, 7) == ""


def test_a_pipe_by_a_weights_name_does_not_block(tmp_path: Path) -> None:
    """Nobody would ever write into it."""
    path = model(tmp_path)
    os.mkfifo(path / "adapter.bin")
    assert "no file" in fault_of(path, 7)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_stable_baselines3_writes_is_trusted(tmp_path: Path) -> None:
    """The real library, and the same file without its last byte."""
    library = pytest.importorskip("stable_baselines3")
    path = tmp_path / "rl_model_8_steps.zip"
    library.PPO("MlpPolicy", "CartPole-v1").save(path)
    assert fault_of(path, 8) == ""
    path.write_bytes(path.read_bytes()[:-1])
    assert fault_of(path, 8)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_hugging_faces_trainer_writes_is_trusted(tmp_path: Path) -> None:
    """The real library: a folder, and the same without the last byte of any of its weights."""
    library = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    network = library.BertForSequenceClassification(library.BertConfig(vocab_size=50, **shape))
    data = [{"input_ids": torch.tensor([1, 2, 3]), "labels": torch.tensor(1)} for _ in range(8)]
    said = {"max_steps": 2, "save_steps": 2, "report_to": [], "use_cpu": True, "disable_tqdm": True}
    library.Trainer(network, library.TrainingArguments(str(tmp_path), **said), train_dataset=data).train()
    path = tmp_path / "checkpoint-2"
    assert fault_of(path, 2) == ""
    for file in [p for p in path.iterdir() if p.suffix in (".safetensors", ".bin", ".pt", ".pth")]:
        content = file.read_bytes()
        file.write_bytes(content[:-1])
        assert file.name in fault_of(path, 2)
        file.write_bytes(content)
