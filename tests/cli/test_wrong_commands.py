"""Every wrong command ends with exit code 1 and one message that names what is wrong; none shows a traceback."""

import shlex

import pytest

RUN = "task=mlvu model=videoxl2 source=mini dry_run=true"
CONF = "--config-dir conf"
KEY = "sk-proj-abcdef1234567890"

WRONG = [
    ("fetc task=mlvu", 'Did you mean "fetch"?'),
    ("mlvu", 'Did you mean "task=mlvu"?'),
    ("run mlvu", "neither a command nor a setting"),
    ("task=mlvu doctor", "a command is the first word"),
    ("--hepl", 'Did you mean "--help"?'),
    ("--multirn task=mlvu", 'Did you mean "--multirun"?'),
    ("--config-name other", "there is no option --config-name"),
    ("--cfg", "--cfg needs a value"),
    ("--cfg jbo", 'Did you mean "job"?'),
    (f"--cfg job --info {RUN}", "exclude each other"),
    (f"--cfg job -m {RUN}", "exclude each other"),
    (f"--resolve {RUN}", "--resolve belongs to --cfg"),
    ("--config-dir", "--config-dir"),
    (f"--config-dir nowhere {RUN}", "nowhere is not a folder"),
    ("task=mlvu", "no model is named"),
    ("task= model=videoxl2", "names nothing"),
    ("task=null model=videoxl2", "names nothing"),
    ("task=[mlvu,vnbench] model=videoxl2", "is a list"),
    (f"{RUN} tracker=null", "names nothing"),
    (f"{RUN} setting=controlled/pur", 'Did you mean "controlled/pure"?'),
    (f"{RUN} sweep=compresion", 'Did you mean "compression"?'),
    (f"{RUN} task.split='dev;test'", "cannot be read"),
    (f"{RUN} model.frames.max=1,2", "add -m"),
    (f"{RUN} model.frames=5", "model.frames is a group of settings"),
    (f"{RUN} video=3", "video is a group of settings"),
    (f"{RUN} hydra=3", "must be a string or a list"),
    (f"{RUN} results=null", "null is not allowed"),
    (f"{RUN} limit=nan", "limit"),
    (f"{RUN} throughput.tflops=inf", "throughput.tflops=inf: give a finite number"),
    (f"{RUN} video.timeout_s=nan", "video.timeout_s=nan: give a finite number"),
    (f"{RUN} task.judge.timeout_s=inf", "task.judge.timeout_s=inf: give a finite number"),
    (f"{RUN} decoding.seed=12345678901234567890", "the number is too large"),
    (f"{RUN} 'model.revision=${{vars.x}}'", "vars.x"),
    (f"{RUN} plugins=3", "name Python packages"),
    (f"{RUN} plugins=my-package", "name Python packages"),
    (f"{RUN} hydra/launcher=slurm", "add -m"),
    (f"{RUN} hydra/launcher=slrum -m", 'Did you mean "slurm"?'),
    (f"{RUN} hydra.mode=MULTRUN", "MULTRUN"),
    (f"{RUN} -m model.frames.max=8,x", "No cell of the sweep was started"),
    (f"{RUN} task._target_=os.system", "outside evalkit"),
    (f"{RUN} model._target_=evalkit.tasks.mlvu.MLVU", "does not inherit from evalkit.model.ModelSettings"),
    (f"{RUN} executor._target_=evalkit.sources.Hub", "does not inherit from evalkit.executors.base.Executor"),
    (f"{CONF} task=unreadable model=videoxl2", "not valid YAML"),
    (f"{CONF} task=without_target model=videoxl2", "has no _target_"),
    (f"{CONF} task=source model=videoxl2", "does not inherit from evalkit.task.Task"),
    (f"{CONF} task=abstract model=videoxl2", "abstract"),
    (f"{CONF} task=stranger model=videoxl2", "add plugins=nosuchpackage"),
    (f"{CONF} task=stranger model=videoxl2 plugins=nosuchpackage", "there is no module nosuchpackage"),
    (f"{CONF} task=not_finite model=videoxl2", "task.depths=nan"),
    (f"{CONF} task=mlvu model=checkpoint_needed", "model.checkpoint has no value: add model.checkpoint=<value>"),
    ("doctor", "no task is named"),
    ("doctor task=mlv", 'Did you mean "mlvu"?'),
    ("doctor task=mlvu,vnbench", "names several values"),
    ("doctor task=mlvu model=videoxl2", 'there is no setting "model"'),
    ("doctor task=mlvu -m", "there is no option -m"),
    ("fetch", "no task is named"),
    ("rescore nowhere", "nowhere"),
    ("import-log nofile task=mlvu", "nofile"),
    ("import_log", "name a file"),
    ("report nowhere", "nowhere"),
    ("report --thumbnails x", "invalid int value"),
    ("report --plugin x", 'Did you mean "--plugins"?'),
    ("compare", "RUN"),
    ("compare a b --jsn x", 'Did you mean "--json"?'),
    ("tasks mlv", 'Did you mean "mlvu"?'),
    ("tasks task=mlvu", "names of tasks"),
    ("models --all", "there is no option --all"),
]


@pytest.mark.parametrize(("command", "words"), WRONG, ids=[command[:60] for command, _ in WRONG])
def test_one_message(evalkit, command, words):
    ended = evalkit(*shlex.split(command))
    assert (ended.code, ended.err.count("error: ")) == (1, 1), ended
    assert words in ended.err
    assert "Traceback" not in ended.err + ended.out


@pytest.mark.parametrize(
    "words",
    [
        f"task.judge.api_key_env={KEY}",
        f"+task.judge.api_key_env={KEY}",
        f"task.judge.api_key_env='{KEY}'",
        f"task.judge={{base_url: x, api_key_env: {KEY}}}",
        f"task.judge={{base_url: x, api_key_env: {KEY};}}",
    ],
)
@pytest.mark.parametrize("command", [f"{RUN} dry_run=false", f"-m {RUN} dry_run=false", "doctor task=mlvu"])
def test_a_key_in_place_of_its_variable_is_neither_shown_nor_written(evalkit, tmp_path, command, words):
    results = [] if command.startswith("doctor") else [f"results={tmp_path}"]
    ended = evalkit(*command.replace(" dry_run=true", "").split(), words, *results)
    assert ended.code == 1, ended
    assert KEY not in ended.out + ended.err
    assert "api_key_env" in ended.err or "task.judge" in ended.err
    assert list(tmp_path.iterdir()) == []
