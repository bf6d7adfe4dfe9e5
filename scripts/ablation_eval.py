"""One task of lm-evaluation-harness on all variants of one ablation of one model."""

from pathlib import Path

from weight_atlas.artifacts import read_json, read_table, write_json, write_table
from weight_atlas.settings.ablations import AblationEval
from weight_atlas.settings.models import Live
from weight_atlas.settings.tasks import TaskFolders
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    requests: Path,
    description: Path,
    super_weights: Path | None = None,
    inventory: Path | None = None,
    token_weights: Path | None = None,
    expert_routing: Path | None = None,
    definition: Path | None = None,
    data: Path | None = None,
    *,
    scores: Path,
    documents: Path,
    ablation: str,
    changes: str,
    settings: AblationEval,
    own: TaskFolders,
    running: Live,
    device: str = "cpu",
) -> None:
    """Write the scores of every variant, and the value of every metric on every document.

    inventory: of tensors, to look up weights by hand. token_weights: by which rows of tokens are pruned. changes: the
    ablation's settings, as JSON.
    """
    from weight_atlas.ablations.harness import Harness, evaluate_variants
    from weight_atlas.ablations.prepare import ablation_settings, open_ablation
    from weight_atlas.ablations.requests import fill_requests
    from weight_atlas.ablations.tasks import load_tasks, own_folders

    task = read_json(description)
    folders = [Path(own.folder)] if own.folder else own_folders(task["folders"])
    mirror = Path(own.mirror) if own.mirror else None
    how = {"folders": folders, "mirror": mirror, "fewshot": task["fewshot"], "seed": task["seed"]}
    loaded = load_tasks(task["name"], definition=definition, data=data, trust_code=own.trust_code, **how)
    files = {"super_weights": super_weights, "inventory": inventory, "token_weights": token_weights}
    files["expert_routing"] = expert_routing
    opened = open_ablation(checkpoint, ablation, ablation_settings(changes, ablation), running, **files, device=device)
    lm = Harness(opened.live, opened.tokenizer, batch_size=settings.batch_size)
    fill_requests(loaded, read_table(requests), lm, limit=task["limit"])
    record, table = evaluate_variants(opened.live, lm, loaded, opened.expansion, limit=task["limit"])
    write_json(scores, {"ablation": ablation, "chance": task["chance"], **record})
    write_table(documents, table)


if __name__ == "__main__":
    run_step(main, globals())
