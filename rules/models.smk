"""The models and trainings of the run, and the paths of their files; what they are is defined in
scripts/common/models.py and scripts/common/experiment.py. No rules."""

from scripts.common import experiment as experiments
from scripts.common import models as resolved
from scripts.common.preference import is_preference, preference_phases, supervised_names, WITH_OTHERS

PHASES = supervised_names(config["curriculum"]["phases"])  # in training order
PREFERENCE = preference_phases(config)  # the phases after these, by name
MODELS = resolved.resolve(config["models"])  # by name, in the order of the config
SERVED = resolved.served(config, MODELS)  # goes to Ollama and the Hub
COMPARED_WITH = resolved.compared_with(config, MODELS)
TRAININGS = resolved.trainings(MODELS)  # without preference phases
PREFERRED = resolved.preferred(MODELS, PREFERENCE)  # the preference phases of each that some model needs
EXPERIMENT = config["experiment"]  # null if there is none
VARIANTS = experiments.variants(EXPERIMENT) if EXPERIMENT else {}
EXPERIMENT_TRAININGS = experiments.trainings(EXPERIMENT)
SPLITS = config["evaluate"]["splits"]
QUANT = config["export"]["quant"]
QUANTS = r"[A-Z0-9_]+(-no-imatrix)?|bf16"  # what a quant is called; no kind of model is called so
FORMS = "|".join([QUANTS, *(name for name, kind in resolved.KINDS.items() if not kind.exported)])


def answer_folder(model, quant=QUANT):
    """The folder of a model's answers, relative to the run's folder."""
    return f"evaluate/{model.name}/{model.form(quant)}"


def evaluated(kind, models=None, splits=SPLITS):
    """The evaluation files of one kind, of all models and splits, ordered by model."""
    models = MODELS.values() if models is None else models
    return [f"results/{{run}}/{answer_folder(model)}/{split}.{kind}" for model in models for split in splits]


def quants():
    """The quants of the served model to compare: bf16, the served one, `more_quants`, and, if the config says so, the
    served one without importance matrix.
    """
    unweighted = [f"{QUANT}-no-imatrix"] if weighted(QUANT) and config["export"]["imatrix"]["compare"] else []
    return list(dict.fromkeys(["bf16", QUANT, *config["export"]["more_quants"], *unweighted]))


def weighted(quant):
    """Whether a quant is made with an importance matrix. llama.cpp's Q8_0 rounds without looking at one."""
    return (
        config["export"]["imatrix"]["enabled"]
        and quant not in ("bf16", "Q8_0")
        and not quant.endswith("-no-imatrix")
    )


def quant_files(kind):
    """The evaluation files of one kind, of all quants of the served model, on the first split."""
    return [f"results/{{run}}/{answer_folder(SERVED, quant)}/{SPLITS[0]}.{kind}" for quant in quants()]


def served(path):
    """A path of the served model: fills in {model} and {quant} and keeps {run}."""
    return path.format(model=SERVED.name, quant=QUANT, run="{run}")


def held_out_rows():
    """The rows of the first evaluated split."""
    return f"results/{{run}}/curriculum/{SPLITS[0]}.jsonl"


def merge_base(model):
    """The checkpoint that a trained model's adapter is merged into."""
    return "results/{run}/base" if model.merged_into == "bf16" else "results/{run}/base-nf4"


def model_folder(model):
    """The checkpoint of a model: the base, or a merged one."""
    return f"results/{{run}}/export/{model.weights}/merged" if model.trained else "results/{run}/base"


def gguf_file(wildcards):
    """The GGUF that a model answers from: one of this run's, or the user's own."""
    model = MODELS[wildcards.model]
    if not model.exported:
        return local(model.given)
    return f"results/{wildcards.run}/export/{model.weights}/{wildcards.get('quant', QUANT)}.gguf"


def needed(wildcards):
    """The files that a model's options need to answer a split."""
    files = MODELS[wildcards.model].needs(config)
    return {name: path.format(**dict(wildcards)) for name, path in files.items()}


def needed_to_choose(wildcards):
    """The files that the choice of a model's examples needs, by the validation rows."""
    files = MODELS[wildcards.model].needs(config)
    return {
        name: path.format(run=wildcards.run, split="valid")
        for name, path in files.items()
        if name != "chosen"
    }


def max_rows(split, model=None):
    """The number of rows of a split that a model is asked at most; None stands for an untrained one."""
    if split == "valid":
        return config["advise"]["rows"]
    most, untrained = config["evaluate"]["max_rows"][split], config["evaluate"]["untrained_rows"]
    return most if untrained is None or (model and model.trained) else min(most, untrained)


def shapes_answers(endpoint):
    """The settings of a model behind an API that shape its answers and their cost; not its key, nor how it is asked."""
    return {key: endpoint[key] for key in ("url", "model", "price", "max_tokens", "request")}


def training_files(kind, trainings=None):
    """The files of one kind of all phases that lead to a training's model, for all trainings or those given."""
    trainings = TRAININGS if trainings is None else trainings
    found = [
        f"results/{{run}}/train/{training.folder}/{phase}/{kind}"
        for training in trainings
        for phase in phases_of(training)
    ]
    return list(dict.fromkeys(found))


def phases_of(training):
    """The phases of a training, in order: the supervised ones up to its own, then its preference phase, if it has one."""
    if training.phase in PREFERENCE:
        return [*PHASES[: PHASES.index(PREFERENCE[training.phase].after) + 1], training.phase]
    return PHASES[: PHASES.index(training.phase) + 1] if training.phase else PHASES


def ledger(training):
    """The exposure ledger of a training: the rows that it saw in each phase."""
    return f"results/{{run}}/curriculum/{training.folder}/ledger.json"


def last_phase(model):
    """The folder of the last phase of a model's training."""
    return training_files("trained", [model.training])[-1]
