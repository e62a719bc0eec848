"""`python -m scripts.bench.show`: print what `make bench` measured, as the Markdown tables in the docs."""

from scripts.common.io import read_json


def main() -> None:
    """Print the tables."""
    measured = read_json("results/bench/training.json")
    compared = read_json("results/bench/training.compared.json")
    against, job = compared["ours_against"], compared["job"]
    print(f"{job['rows']} rows, {job['tokens']} tokens, {job['threads']} threads, held-out loss over ", end="")
    print(f"{job['heldout_completion_tokens']} completion tokens\n")
    print("| way | tokens/s | peak memory (GiB) | held-out loss | seconds in steps | total seconds |")
    print("|---|--:|--:|--:|--:|--:|")
    for way, m in sorted(measured.items(), key=lambda item: item[1]["tokens_per_s"]):
        figures = f"{m['tokens_per_s']} | {m['peak_gib']} | {m['heldout_loss']:.3f} | {m['seconds_steps']:.0f}"
        print(f"| {way} | {figures} | {m['seconds_all']:.0f} |")
    for way, facts in against.items():
        verdict = "no worse" if facts["no_worse"] else "WORSE"
        print(
            f"\nours is {facts['times_as_fast']} times as fast as {way} (by the slower of its two runs); held-out loss "
            f"{facts['heldout_loss_difference']:+.3f} ({verdict}, tolerance {job['tolerance']})"
        )
    levers = read_json("results/bench/levers.json")
    print(f"\n| a step with … | times as fast (median of {levers['steps']} steps) | quartiles |")
    print("|---|--:|--:|")
    for name, found in sorted(levers["levers"].items(), key=lambda item: -item[1]["ratio"]):
        print(f"| {name} | {found['ratio']:.2f} | {found['low']:.2f}–{found['high']:.2f} |")
    answering = read_json("results/bench/answering.json")
    print(f"\n{answering['rows']} rows, {answering['prompt_tokens']} prompt tokens, {answering['threads']} threads\n")
    print("| way | seconds | times as fast as the loop | of llama.cpp's benchmark | answers equal to the loop's |")
    print("|---|--:|--:|--:|--:|")
    for name, way in answering["ways"].items():
        figures = f"{way['seconds']} | {way['times_as_fast']:.2f} | {way['share_of_benchmark']:.0%}"
        print(f"| {name} | {figures} | {way['same_as_loop']} |")
    ideal = answering["benchmark"]
    print(
        f"\nllama.cpp's benchmark: {ideal['prompt_tokens_per_s']} prompt and {ideal['answer_tokens_per_s']} answer "
        f"tokens/s; at that, the tokens of the last way would take {ideal['seconds']} s"
    )


if __name__ == "__main__":
    main()
