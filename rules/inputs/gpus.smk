"""GPUs that jobs declare, for all rules: one each, or one for each process of a training, so that no two jobs share one. No rules."""

from scripts.common.gpus import layer_fault, offloads, visible_gpus
from scripts.config.reading import where

# of this machine, or as many as `--resources gpu=…` says, as for a cluster, whose GPUs are not here
GPUS = limit_resource(workflow, "gpu", len(visible_gpus()) if workflow.is_main_process else 0)
if workflow.is_main_process and (no_gpu := layer_fault(config["evaluate"]["gpu_layers"], GPUS)):
    raise WorkflowError(f"{where(['evaluate', 'gpu_layers'], CONFIG_FILES)}: evaluate.gpu_layers {no_gpu}")
TRAINING_GPU = int(GPUS > 0 and config["train"]["device"] == "auto")
CUDA_MB = 2000 * TRAINING_GPU  # main memory for what CUDA takes besides: generous, not measured
# of a training, each of whose processes has one of its own
TRAINING_GPUS = TRAINING_GPU * config["train"]["processes"]
if workflow.is_main_process and TRAINING_GPUS > GPUS:
    raise WorkflowError(
        f"{where(['train', 'processes'], CONFIG_FILES)}: train.processes is {TRAINING_GPUS}, but there "
        f"{'is 1 GPU' if GPUS == 1 else f'are {GPUS} GPUs'}, one for each process. Lower it, or say how many there are "
        "where the run trains: --resources gpu=…"
    )
ANSWERING_GPU = int(offloads(config["evaluate"]["gpu_layers"], GPUS))
