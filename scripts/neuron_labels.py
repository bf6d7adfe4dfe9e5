"""What kind of effect each neuron has on the vocabulary: labels from the scan of all neurons, and their map."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.vocabulary import neuron_map
from weight_atlas.settings.vocabulary import NeuronLabels
from weight_atlas.vocabulary.labels import count_labels, threshold_value, with_labels
from weight_atlas.workflow.step import run_step


def main(
    neuron_scan: Path,
    tensor_inventory: Path,
    *,
    table: Path,
    counts: Path,
    figure: Path,
    model: str = "model",
    settings: NeuronLabels,
) -> None:
    """Write the scan with labels, the number of neurons by layer and label, and the map of all neurons."""
    neurons = with_labels(read_table(neuron_scan), read_table(tensor_inventory), settings)
    write_table(table, neurons)
    write_table(counts, count_labels(neurons))
    save_figure(
        figure, neuron_map(neurons, threshold_value("kurtosis", settings.kurtosis, neurons), f"Neurons of {model}")
    )
    print(neurons.label.value_counts().to_string(), flush=True)


if __name__ == "__main__":
    run_step(main, globals())
