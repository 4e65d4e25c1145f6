"""Read wandb's offline run file: LevelDB's log format with a header of its own, holding protocol buffers."""

import json
import struct
import zlib
from pathlib import Path

BLOCK = 32768  # bytes; a record's pieces do not cross the border of a block
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def chunks(data: bytes):
    """The records of a log in order, with their checksums verified (crc32 over type and content)."""
    assert data[:4] == b":W&B"
    place, whole = 7, b""
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, place)
        piece = data[place + 7 : place + 7 + length]
        assert kind in (FULL, FIRST, MIDDLE, LAST) and zlib.crc32(bytes([kind]) + piece) == checksum
        whole = piece if kind in (FULL, FIRST) else whole + piece
        if kind in (FULL, LAST):
            yield whole
        place += 7 + length


def read_run(folder: Path) -> dict:
    """The one tracked run under `folder`: `id`, `group`, `tags`, `config`, `history` (list of rows), `artifacts`.

    A row maps names to values; an artifact maps its files' names to their paths.
    """
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.rglob("*.wandb")
    run = {"config": {}, "history": [], "artifacts": {}}
    for chunk in chunks(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(chunk)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run |= {"id": record.run.run_id, "name": record.run.display_name}
            run |= {"group": record.run.run_group, "tags": list(record.run.tags), "project": record.run.project}
            run["config"] |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            items = record.history.item
            row = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
            run["history"].append(row)
        elif kind == "artifact" or (kind == "request" and record.request.HasField("log_artifact")):
            artifact = record.artifact if kind == "artifact" else record.request.log_artifact.artifact
            run["artifacts"][artifact.name] = {entry.path: entry.local_path for entry in artifact.manifest.contents}
    return run
