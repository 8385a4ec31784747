"""Trained models as files: one folder per model, versions side by side, the latest known by name."""

import io
import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np

from offchain.domain.errors import DomainError, PermanentError
from offchain.forecasting.experts import Experts, Settings
from offchain.forecasting.forecaster import Memory, Model
from offchain.forecasting.horizons import horizon

FORMAT = 2


def save_model(folder: Path, name: str, model: Model) -> Path:
    """Store a model as the next version of ``name``; returns its file. Older versions stay."""
    home = Path(folder) / name
    home.mkdir(parents=True, exist_ok=True)
    path = home / f"v{len(versions(folder, name)) + 1:04d}.npz"
    head = {
        "format": FORMAT,
        "model_id": model.model_id,
        "horizon": model.horizon.name,
        "target": model.target,
        "settings": asdict(model.settings),
        "ids": model.ids,
        "trained_until_isp": model.trained_until_isp,
        "inputs_sha256": model.inputs_sha256,
        "weather_names": model.weather_names,
        "feature_names": model.experts.feature_names,
        "linear": model.experts.linear,
        "importance": model.experts.importance,
        "boosters": {str(level): texts for level, texts in model.experts.boosters.items()},
    }
    arrays = {
        "scale_wh": model.scale_wh,
        "coefficients": model.experts.coefficients,
        "known_until": model.memory.known_until,
        "steps": model.memory.steps,
        "experts": model.memory.experts,
        "widths": model.memory.widths,
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, head=np.frombuffer(json.dumps(head).encode(), dtype=np.uint8), **arrays)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(buffer.getvalue())
    os.replace(temporary, path)
    return path


def versions(folder: Path, name: str) -> list[Path]:
    """Files of all versions of a model, oldest first."""
    return sorted((Path(folder) / name).glob("v*.npz"))


def load_model(folder: Path, name: str, version: int | None = None) -> Model:
    """Load a version of a model, the latest when none is named."""
    known = versions(folder, name)
    if version is not None:
        known = [p for p in known if p.stem == f"v{version:04d}"]
    if not known:
        raise DomainError(f"no model {name} in {folder}", hint="train it: gridpact forecast train")
    path = known[-1]
    try:
        with np.load(path, allow_pickle=False) as arrays:
            head = json.loads(arrays["head"].tobytes())
            if head["format"] != FORMAT:
                raise PermanentError(f"{path}: format {head['format']}, not {FORMAT}", hint="train it again")
            experts = Experts(
                tuple(head["feature_names"]),
                tuple(head["linear"]),
                arrays["coefficients"],
                {float(level): tuple(texts) for level, texts in head["boosters"].items()},
                head["importance"],
            )
            memory = Memory(arrays["known_until"], arrays["steps"], arrays["experts"], arrays["widths"])
            return Model(
                horizon(head["horizon"]),
                head["target"],
                Settings(**head["settings"]),
                tuple(head["ids"]),
                arrays["scale_wh"],
                head["trained_until_isp"],
                head["inputs_sha256"],
                experts,
                memory,
                tuple(head["weather_names"]),
            )
    except (OSError, KeyError, ValueError) as exc:
        raise PermanentError(f"{path}: not a stored model: {exc}", hint="train it again") from exc
