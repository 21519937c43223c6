"""The method and the metric have the properties that those of ssig have."""

from __future__ import annotations

import torch
from my_method.method import my_method
from my_method.metric import my_metric

import ssig
from ssig.testing import check_method, check_metric, example_images, small_network


def test_the_method_has_every_property() -> None:
    check_method(my_method)


def test_the_metric_has_every_property() -> None:
    check_metric(my_metric)


def test_without_noise_it_is_gradient_times_difference() -> None:
    network, images = small_network(), example_images()
    mine = ssig.attribute(network, images, range(5), my_method, sigma=0.0, baseline="black")
    known = ssig.attribute(network, images, range(5), "gradient-x-input", baseline="black")
    assert torch.allclose(mine.map, known.map)
