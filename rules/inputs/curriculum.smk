"""Input functions of scoring and phases, for ../curriculum.smk. No rules."""


def base_losses(wildcards):
    """The base's losses, if a scorer needs them."""
    needed = any(config["score"]["weights"][name] is not None for name in ("loss", "ifd"))
    return {"losses": f"results/{wildcards.run}/train/base_loss.jsonl"} if needed else {}
