"""Shared fixtures: real parts, small."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

CAPTIONS = [
    "a small red circle",
    "two blue stars on a striped ground",
    "the hidden garden by lofe gadu",
]


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real, untrained pipeline folder of the testbed's class (velocity prediction)."""
    import torch

    from scanner.testbed import pipeline

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("pipeline")
    words = pipeline.tokenizer(CAPTIONS * 3)
    text, unet = pipeline.text_encoder(words), pipeline.unet()
    pipeline.save_pipeline(folder, pipeline.autoencoder(), words, text, unet)
    return folder


@pytest.fixture(scope="session")
def epsilon_folder(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder, its scheduler saying that the network predicts noise."""
    import json
    import shutil

    folder = tmp_path_factory.mktemp("epsilon") / "pipeline"
    shutil.copytree(pipeline_folder, folder)
    file = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"prediction_type": "epsilon"}))
    return folder
