"""Checkpoints that are whole or not there at all.

A file holds a line that says what it is, the digest of the rest, and the rest: tensors and plain values written by
``torch.save`` and read back with ``weights_only``, so that a file cannot run code. It is written beside its place,
forced to disk, and renamed. What a checkpoint belongs to (shapes, features, settings, table version) is its
*manifest*, compared at load.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from dlmine_spark.errors import TrainingError
from dlmine_spark.training.loop import EpochLog, Progress, TrainState

log = logging.getLogger(__name__)

MAGIC = b"dlmine-checkpoint-1\n"
_PATTERN = "epoch-*.ckpt"

Manifest = Mapping[str, Any]


def normalised(manifest: Manifest) -> dict[str, Any]:
    """A manifest as it reads after a round trip through JSON, so that two can be compared."""
    result: dict[str, Any] = json.loads(json.dumps(manifest, sort_keys=True))
    return result


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it has the old content or the new one, whatever happens meanwhile."""
    with written_whole(path) as file:
        file.write(content)


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes its place when the block has ended well: see ``write_bytes``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        # A write that fails does not say in which file.
        error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    # The rename itself has to reach the disk too.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def pack(content: Mapping[str, Any]) -> bytes:
    """Tensors and plain values as bytes that say whether they are whole."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    payload = buffer.getvalue()
    return MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


def unpack(content: bytes, where: str) -> dict[str, Any]:
    """What ``pack`` packed.

    Raises:
        TrainingError: the bytes are something else, truncated or altered.
    """
    if not content.startswith(MAGIC):
        raise TrainingError(f"{where}: is no checkpoint of dlmine-spark")
    digest, _, payload = content.removeprefix(MAGIC).partition(b"\n")
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        raise TrainingError(f"{where}: is truncated or altered (its digest does not fit)")
    try:
        result: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise TrainingError(f"{where}: cannot be read by this version of torch: {error}") from error
    return result


def pack_state(state: TrainState, manifest: Manifest) -> bytes:
    """A training state with its manifest, as bytes."""
    return pack(
        {
            "manifest": json.dumps(normalised(manifest)),
            "history": json.dumps([asdict(entry) for entry in state.history]),
            "weights": state.weights,
            "best_weights": state.best_weights,
            "optimizer": state.optimizer,
            "epoch": state.epoch,
            "begun": asdict(state.begun),
            "best_epoch": state.best_epoch,
            "best_metric": state.best_metric,
            "since_best": state.since_best,
            "stopped": state.stopped,
            "computed": list(state.computed),
        }
    )


def unpack_state(content: bytes, manifest: Manifest, where: str) -> TrainState:
    """The training state, if it belongs to ``manifest``.

    Raises:
        TrainingError: it is damaged or of another run; names what differs.
    """
    loaded = unpack(content, where)
    _require_manifest(loaded, manifest, where)
    return TrainState(
        weights=loaded["weights"],
        optimizer=loaded["optimizer"],
        epoch=loaded["epoch"],
        begun=Progress(**loaded["begun"]),
        best_weights=loaded["best_weights"],
        best_epoch=loaded["best_epoch"],
        best_metric=loaded["best_metric"],
        since_best=loaded["since_best"],
        stopped=loaded["stopped"],
        history=tuple(EpochLog(**entry) for entry in json.loads(loaded["history"])),
        computed=tuple(loaded["computed"]),
    )


def _require_manifest(loaded: Mapping[str, Any], manifest: Manifest, where: str) -> None:
    try:
        found, expected = json.loads(loaded["manifest"]), normalised(manifest)
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{where}: has no manifest") from error
    found, expected = _flat(found), _flat(expected)
    differing = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
    if differing:
        key = differing[0]
        raise TrainingError(
            f"{where}: belongs to another model: {', '.join(differing)} differ "
            f"({key}: {found.get(key)!r} there, {expected.get(key)!r} here)"
        )


def _flat(manifest: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A manifest by dotted names, so that a message can name the one setting that differs."""
    flat: dict[str, Any] = {}
    for key, value in manifest.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


@dataclass(frozen=True, slots=True)
class CheckpointStore:
    """The checkpoints of one training: the last ``keep``, each holding the best weights so far too."""

    folder: Path
    keep: int

    def save(self, state: TrainState, manifest: Manifest) -> Path:
        """Write a state and remove checkpoints older than the last ``keep``."""
        # In the order of their names: after an epoch, then after steps of the next.
        within = f".step-{state.begun.steps:08d}" if state.begun.steps else ""
        path = self.folder / f"epoch-{state.epoch:05d}{within}.ckpt"
        write_bytes(path, pack_state(state, manifest))
        for old in sorted(self.folder.glob(_PATTERN))[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def newest(self, manifest: Manifest) -> TrainState | None:
        """The state of the newest checkpoint that is whole and of this training; others are named and passed over."""
        for path in sorted(self.folder.glob(_PATTERN), reverse=True):
            try:
                return unpack_state(path.read_bytes(), manifest, str(path))
            except (TrainingError, OSError) as error:
                log.warning("%s; trying the one before it", error)
        return None


def save_model(path: Path, weights: Mapping[str, torch.Tensor], manifest: Manifest) -> None:
    """Write a trained network: its weights and what they belong to."""
    write_bytes(path, pack({"manifest": json.dumps(normalised(manifest)), "weights": dict(weights)}))


def load_model(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Weights and manifest of a trained network.

    Raises:
        TrainingError: there is no such file, or it is no whole model.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrainingError(f"{path}: there is no trained model ({error.strerror}); run the stage train") from error
    loaded = unpack(content, str(path))
    try:
        return loaded["weights"], json.loads(loaded["manifest"])
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path}: is a checkpoint, but not of a finished model") from error
