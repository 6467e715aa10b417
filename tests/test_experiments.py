"""Every experiment, setting and sweep of the repository composes to the settings that it should."""

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from evalkit import CONFIGS, job
from evalkit.cli.compose import choices, compose
from evalkit.errors import ConfigError
from evalkit.models.shared.layout import Streaming

PUBLISHED = ("mlvu", "videomme", "lvbench", "longvideobench")
HF_VLM = [name for name in choices("experiment") if name.startswith(("qwen", "llava_onevision"))]
SINGLE = ("embedded", "video_xl_2/released", *HF_VLM)  # experiments of one run
CONTROLLED = [f"video_xl_2/{name}/controlled" for name in PUBLISHED]


def with_hydra(*overrides: str):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra_compose("evalkit", list(overrides), return_hydra_config=True)


@pytest.mark.parametrize("experiment", choices("experiment"))
def test_experiments_make_a_valid_plan(experiment):
    plan = job.plan(compose([f"experiment={experiment}"]))
    assert plan.task.protocol == ("official" if experiment in SINGLE else "video_xl_2")


@pytest.mark.parametrize("experiment", [e for e in choices("experiment") if e not in SINGLE])
def test_experiments_sweep_their_three_settings(experiment):
    config = with_hydra(f"experiment={experiment}")
    cells = config.hydra.sweeper.params["setting"].split(",")
    assert str(config.hydra.mode) == "RunMode.MULTIRUN"
    assert [cell.rpartition("/")[2] for cell in cells] == ["pure", "chunked", "bilevel"]
    assert all(cell in choices("setting") for cell in cells)


@pytest.mark.parametrize(
    ("task", "frames", "windows"),
    [  # the scripts in Video-XL-2/eval/lvu: frames and (chunk_groups, previous_chunks) of chunked and bi-level
        ("mlvu", (256, 256, 256), ((4, 3), (4, 3))),
        ("videomme", (400, 300, 400), ((4, 3), (4, 3))),
        ("lvbench", (600, 600, 600), ((4, 11), (4, 11))),
        ("longvideobench", (400, 400, 400), ((6, 5), (4, 3))),
    ],
)
def test_published_settings_are_those_of_the_authors_scripts(task, frames, windows):
    found = []
    for setting in ("pure", "chunked", "bilevel"):
        overrides = [f"experiment=video_xl_2/{task}", f"setting=video_xl_2/{task}/{setting}"]
        if setting == "bilevel":
            with pytest.raises(ConfigError, match=r"vars\.selected_infos"):
                job.plan(compose(overrides))
            overrides.append("vars.selected_infos=/somewhere/selected_infos")
        found.append(job.plan(compose(overrides)).model)
    pure, chunked, bilevel = found
    assert tuple(model.frames.max for model in found) == frames
    assert (pure.sparse_prefill.enabled, pure.frames.multiple_of, chunked.frames.multiple_of) == (False, 4, 1)
    for model, window in zip((chunked, bilevel), windows, strict=True):
        assert (model.sparse_prefill.chunk_groups, model.sparse_prefill.previous_chunks) == window
    assert bilevel.bilevel_decode.enabled
    assert {model.dtype for model in found} == {"float16"}


@pytest.mark.parametrize("experiment", CONTROLLED)
def test_controlled_settings_differ_in_the_attention_alone(experiment):
    identities = []
    for setting in ("pure", "chunked", "bilevel"):
        plan = job.plan(compose([f"experiment={experiment}", f"setting=controlled/{setting}"]))
        identity = plan.identity()
        switches = [identity["model"].pop(key) for key in ("sparse_prefill", "bilevel_decode")]
        identities.append(identity)
        assert [switch["enabled"] for switch in switches] == [setting != "pure", setting == "bilevel"]
    assert identities[0] == identities[1] == identities[2]


@pytest.mark.parametrize("task", ["lvbench", "mlvu"])
def test_the_released_models_own_setting(task):
    plan = job.plan(compose([f"task={task}", "experiment=video_xl_2/released"]))
    assert plan.task.name == task
    assert plan.model.sparse_prefill.policy() == Streaming(4, 1)
    assert (plan.model.frames.rule, plan.model.frames.max, plan.model.dtype) == ("uniform", 1300, "float16")
    assert plan.model.kv_store.device == "cpu"


@pytest.mark.parametrize("sweep", choices("sweep"))
def test_sweeps_name_settings_that_exist(sweep):
    params = with_hydra("task=mlvu", "model=videoxl2", f"sweep={sweep}").hydra.sweeper.params
    for key, values in params.items():
        for value in str(values).split(","):
            job.plan(compose(["task=mlvu", "model=videoxl2", f"{key}={value}"]))


def test_a_sweep_of_compression_switches_bilevel_decode_on():
    model = job.plan(compose(["task=lvbench", "model=videoxl2", "model.bilevel_decode.compression=8"])).model
    assert model.bilevel_decode.enabled
    assert model.bilevel_decode.compression == 8


def test_sparse_settings_need_a_model_that_has_them():
    with pytest.raises(ConfigError, match="no setting"):
        compose(
            ["task=toy", "model=scripted", "model.sparse_prefill.enabled=true"],
            [CONFIGS, CONFIGS.parent / "tests/conf"],
        )


def test_the_slurm_launcher_composes():
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="the extra [slurm] is not installed")
    launcher = with_hydra("task=mlvu", "model=videoxl2", "hydra/launcher=slurm").hydra.launcher
    values = OmegaConf.to_container(launcher, resolve=False)
    assert values["_target_"].endswith("SlurmLauncher")
    assert (values["gpus_per_node"], values["timeout_min"]) == (1, 1440)
