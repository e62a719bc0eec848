"""Input functions of benchmarks, for ../bench.smk. No rules."""


def bench_input():
    """The inputs of benchmarks: the served model's last phase, which has rows of all levels."""
    results = f"results/{config['run']}"
    return {
        "rows": f"{results}/curriculum/{SERVED.training.folder}/{PHASES[-1]}.jsonl",
        "valid": f"{results}/curriculum/valid.jsonl",
        "base": f"{results}/base",
        "rounded": f"{results}/base-nf4",
        "contract": f"{results}/data/chat_contract.json",
    }
