"""The workflow as Snakemake holds it, for tests that ask it instead of the text of its files."""

import os
from functools import cache
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.rules import Rule
from snakemake.settings.types import ConfigSettings, ResourceSettings, StorageSettings

ROOT = Path(__file__).resolve().parents[2]


@cache
def load_rules(*configurations: str, folder: Path = ROOT) -> dict[str, Rule]:
    """Every rule of the workflow by name, run from `folder`; without configurations those of the paper's run."""
    before = os.getcwd()
    try:
        with SnakemakeApi() as api:
            opened = api.workflow(
                resource_settings=ResourceSettings(cores=2),
                config_settings=ConfigSettings(
                    configfiles=[Path(one) for one in configurations or ["config/config.yaml"]]
                ),
                storage_settings=StorageSettings(),
                snakefile=ROOT / "Snakefile",
                workdir=folder,
            )
            return {rule.name: rule for rule in opened._workflow.rules}
    finally:
        os.chdir(before)
