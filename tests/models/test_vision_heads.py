from __future__ import annotations

import pytest
import torch
from torch import nn

from tunesmith.models.vision_heads import fit_outputs, kept_rows, names_of, output_layer, outputs, replace_output


class Net(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.last = nn.Linear(inputs, outputs)


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("shufflenet_v2_x0_5", "fc"),
        ("mobilenet_v3_small", "classifier.3"),
        ("squeezenet1_1", "classifier.1"),
        ("efficientnet_b0", "classifier.1"),
        ("mnasnet0_5", "classifier.1"),
    ],
)
def test_the_output_layer_is_found_in_every_family(architecture: str, name: str) -> None:
    import torchvision

    model = torchvision.models.get_model(architecture, num_classes=7)
    found, layer = output_layer(model)
    assert (found, outputs(layer)) == (name, 7)
    replace_output(model, found, 3)
    assert outputs(output_layer(model)[1]) == 3


def test_labels_that_a_row_goes_by_keep_it_and_others_are_drawn() -> None:
    torch.manual_seed(0)
    model = Net(4, 3)
    old = model.last.weight.detach().clone()
    drawn = fit_outputs(
        model, ["last"], names_of(["cat", "dog", "tree"]), ["Dog", "newt"], lambda n: _redraw(model, n, 1)
    )
    assert drawn == {"last.weight", "last.bias"}
    assert torch.equal(model.last.weight[0], old[1])
    again = Net(4, 3)
    fit_outputs(again, ["last"], (), ["Dog", "newt"], lambda n: _redraw(again, n, 1))
    assert torch.equal(model.last.weight[1], again.last.weight[1])
    assert not torch.equal(model.last.weight[0], again.last.weight[0])


def test_the_same_labels_in_another_order_take_their_rows_along() -> None:
    model = Net(4, 2)
    old = model.last.weight.detach().clone()
    known = names_of(["cat", "dog"])
    assert fit_outputs(model, ["last"], known, ["cat", "dog"], lambda n: _redraw(model, n, 0)) == set()
    assert torch.equal(model.last.weight, old)
    assert fit_outputs(model, ["last"], known, ["dog", "cat"], lambda n: _redraw(model, n, 0)) == set()
    assert torch.equal(model.last.weight, old[[1, 0]])


def test_rows_without_names_are_drawn_even_where_their_number_fits() -> None:
    model = Net(4, 2)
    old = model.last.weight.detach().clone()
    known = names_of(["LABEL_0", "LABEL_1"])
    assert fit_outputs(model, ["last"], known, ["LABEL_0", "LABEL_1"], lambda n: _redraw(model, n, 0)) == {
        "last.weight",
        "last.bias",
    }
    assert not torch.equal(model.last.weight, old)


def test_imagenet_goes_by_its_synonyms_but_no_name_means_two_classes() -> None:
    from tunesmith.models.vision_cards import imagenet_names

    labels = [names[1] for names in imagenet_names()]
    known = names_of(labels)
    assert kept_rows(known, ["ant", "bee", "n01440764", "tinca tinca"]) == {0: 310, 1: 309, 2: 0, 3: 0}
    assert kept_rows(known, ["crane", "no such thing"]) == {}


def _redraw(model: nn.Module, count: int, seed: int) -> None:
    torch.manual_seed(seed)
    replace_output(model, "last", count)
