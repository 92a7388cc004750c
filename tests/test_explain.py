"""Maps of evidence: where they lie, what they add up to, and what the slow way says."""

import numpy as np
import pytest
import torch
from scored import make_predictions
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional

from haemo.errors import BadSettings
from haemo.models.evidence.activations import Activations
from haemo.models.evidence.both_sides import both_sides
from haemo.models.evidence.explain import (
    ExplainedModel,
    _parts,
    explain_extractor,
    explain_network,
    randomised,
)
from haemo.models.evidence.maps import METHODS, Grid, class_activation_map, grid_of, projection
from haemo.models.heads.calibration import CalibratedHead
from haemo.models.heads.spec import HeadSpec
from haemo.models.networks.alexnet import load_extractor
from haemo.models.networks.mirrored import MirroredExtractor, mirrored
from haemo.models.training.recipes import build, recipe_for
from haemo.models.training.trained import TrainedNetwork
from haemo.models.weights.imagenet import resolve_weights
from haemo.pipeline.explaining.explanation import likeliest

SIZE = 48


class Sum(nn.Module):
    """Two channels pooled, flattened and weighed: linear above the convolution."""

    def __init__(self, weights):
        super().__init__()
        self.weights = torch.as_tensor(weights, dtype=torch.float32)

    def forward(self, maps):
        return functional.max_pool2d(maps, 2).flatten(1) @ self.weights.flatten() - 3.0


class Linear(nn.Module):
    """All activations weighed, without a pool."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def forward(self, maps):
        return maps.flatten(1) @ self.weights + 0.7


def small_model(seed=0):
    """One convolution, then a linear score; brightness speaks for in channel 0, against in channel 1."""
    convolution = nn.Conv2d(1, 2, 5, stride=2, padding=2)
    with torch.no_grad():
        convolution.weight[:] = 1 / 25
        convolution.bias.zero_()
    weights = np.random.default_rng(seed).normal(size=(2, SIZE // 4, SIZE // 4))
    weights[0], weights[1] = np.abs(weights[0]), 0
    return ExplainedModel([convolution, nn.ReLU()], Sum(weights), SIZE, (0.0,), (1.0,), ("no", "yes"))


def spot(row, column, size=SIZE):
    plane = np.full((size, size), 20, dtype=np.uint8)
    plane[row - 2 : row + 3, column - 2 : column + 3] = 255
    return plane


@pytest.mark.numerical
def test_hirescam_adds_up_to_the_score_but_for_its_constant():
    planes = np.random.default_rng(1).integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8)
    model = small_model()
    maps = model.maps(planes)
    np.testing.assert_allclose(maps.sum(axis=(1, 2)) - 3.0, model.scores(planes), rtol=1e-5)
    np.testing.assert_allclose(model.maps(planes, target="no"), -maps)


@pytest.mark.numerical
def test_hirescam_is_what_the_score_loses_when_a_place_falls_silent():
    """But for pooling, where the next highest place steps in."""
    model = small_model()
    plane = np.random.default_rng(4).integers(0, 256, (1, SIZE, SIZE), dtype=np.uint8)
    with torch.no_grad():
        activations = model.below(torch.from_numpy(plane).float().unsqueeze(1) / 255)
        whole = model.above(activations).item()
        lost = np.zeros(activations.shape[2:])
        for row, column in np.ndindex(lost.shape):
            silent = activations.clone()
            silent[:, :, row, column] = 0
            lost[row, column] = whole - model.above(silent).item()
    evidence = model.maps(plane)[0]
    assert (lost <= evidence + 1e-4).all()
    assert np.abs(lost[evidence == 0]).max() < 1e-4, (
        "what is not the highest place of its pool is silent already"
    )
    pools = evidence.reshape(SIZE // 4, 2, SIZE // 4, 2)
    np.testing.assert_array_equal(np.count_nonzero(pools, axis=(1, 3)), 1)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_only_bright_spot(method):
    model = small_model()
    model.references = np.full((3, SIZE, SIZE), 20, dtype=np.uint8)
    for row, column in ((10, 30), (37, 8)):
        evidence = model.maps(spot(row, column)[None], method)[0]
        on_slice = model.on_slice(evidence, 2 * SIZE, 3 * SIZE)
        assert on_slice.shape == (2 * SIZE, 3 * SIZE)
        y, x = np.unravel_index(on_slice.argmax(), on_slice.shape)
        assert abs(y / 2 - row) <= (20 if method == "occlusion" else 5)
        assert abs(x / 3 - column) <= (20 if method == "occlusion" else 5)


@pytest.mark.numerical
def test_a_score_falls_by_what_occlusion_says():
    """With an unbounded linear model a painted patch takes away exactly its own evidence."""
    model = small_model()
    plane = spot(24, 24)
    fall = model.maps(plane[None], "occlusion")[0]
    assert fall[24, 24] > 0
    assert fall.shape == (SIZE, SIZE)
    painted = plane.copy()
    painted[:32, :32] = 20
    expected = model.scores(plane[None])[0] - model.scores(painted[None])[0]
    assert fall[0, 0] == pytest.approx(expected, rel=1e-5)


def slow_map(method, activations, gradients):
    channels, height, width = activations.shape
    result = np.zeros((height, width))
    for k in range(channels):
        a, g = activations[k], gradients[k]
        if method == "gradcam":
            result += g.mean() * a
            continue
        for sign in (1, -1):
            alpha = np.zeros_like(g)
            for i in range(height):
                for j in range(width):
                    below = 2 * g[i, j] ** 2 + a.sum() * (sign * g[i, j]) ** 3
                    alpha[i, j] = g[i, j] ** 2 / below if below else 0
            result += sign * (alpha * np.maximum(sign * g, 0)).sum() * a
    return result


@pytest.mark.numerical
def test_contrast_adds_up_to_how_far_the_score_lies_from_that_of_the_average_slice():
    """Of a score that is linear in the last convolution."""
    convolution = nn.Conv2d(1, 2, 5, stride=2, padding=2)
    weights = torch.randn(2 * (SIZE // 2) ** 2, generator=torch.Generator().manual_seed(0))
    above = Linear(weights)
    model = ExplainedModel([convolution, nn.ReLU()], above, SIZE, (0.0,), (1.0,), ("no", "yes"))
    random = np.random.default_rng(2)
    model.references = random.integers(0, 256, (40, SIZE, SIZE), dtype=np.uint8)
    planes = random.integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8)
    evidence = model.maps(planes, "contrast")
    expected = model.scores(planes) - model.scores(model.references).mean()
    np.testing.assert_allclose(evidence.sum(axis=(1, 2)), expected, atol=1e-3)


def test_contrast_is_blind_to_what_all_slices_have():
    model = small_model()
    skull = np.full((SIZE, SIZE), 20, dtype=np.uint8)
    skull[:6] = 255
    model.references = skull[None]
    both = skull.copy()
    both[30:35, 10:15] = 160
    assert model.maps(both[None], "hirescam")[0].argmax() < 4 * (SIZE // 2)
    y, x = np.unravel_index(model.maps(both[None], "contrast")[0].argmax(), (SIZE // 2, SIZE // 2))
    assert 14 <= y <= 17
    assert 4 <= x <= 8


def test_contrast_without_training_slices_is_refused_and_a_random_network_has_its_own_average():
    model = small_model()
    plane = spot(24, 24)[None]
    with pytest.raises(BadSettings, match="training slices"):
        model.maps(plane, "contrast")
    model.references = plane
    assert not model.maps(plane, "contrast").any()
    blank = randomised(model, 1)
    assert not blank.maps(plane, "contrast").any()


@pytest.mark.numerical
@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
def test_maps_follow_their_formulas(method):
    random = np.random.default_rng(2)
    activations = np.maximum(random.normal(size=(4, 5, 3)), 0)
    gradients = random.normal(size=(4, 5, 3))
    gradients[0] = 0
    found = class_activation_map(
        method, torch.from_numpy(activations)[None], torch.from_numpy(gradients)[None]
    )
    np.testing.assert_allclose(found[0].numpy(), slow_map(method, activations, gradients), rtol=1e-9)


def test_the_grid_is_where_a_layer_looks():
    """The gradient of one place of the last map, by the plane, is centred on the grid's pixel."""
    layers = list(build("cnn", 2).features)[:8]
    layers = [nn.AvgPool2d(3, 2) if isinstance(one, nn.MaxPool2d) else one for one in layers]
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1.0)
    linear = nn.Sequential(*(one for one in layers if not isinstance(one, nn.ReLU)))
    plane = torch.zeros(1, 3, 227, 227, requires_grad=True)
    linear(plane)[0, 0, 6, 4].backward()
    weight = plane.grad[0].sum(dim=0).numpy()
    original = list(build("cnn", 2).features)[:8]
    grid = grid_of(original)
    rows, columns = (weight.sum(axis=axis) @ np.arange(227) / weight.sum() for axis in (1, 0))
    assert rows == pytest.approx(grid.start + 6 * grid.step, abs=0.01)
    assert columns == pytest.approx(grid.start + 4 * grid.step, abs=0.01)


@pytest.mark.numerical
def test_projection_interpolates_and_goes_on_beyond_the_ends():
    matrix = projection(Grid(15, 16), 13, 227, 227)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)
    places = np.clip((np.arange(227) - 15) / 16, 0, 12)
    np.testing.assert_allclose(matrix @ np.arange(13.0), places, atol=1e-5)
    assert projection(Grid(3, 1), 1, 7, 5).tolist() == [[1.0]] * 5


def planes_of_noise(count, size=227, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size), dtype=np.uint8)


@pytest.fixture(scope="module")
def extractor():
    return load_extractor(resolve_weights("random", 0, "pool5"), "pool5", "float32", "cpu", batch=4)


@pytest.fixture(scope="module")
def embedded(extractor):
    planes = planes_of_noise(16)
    planes[::2, 60:120, 60:120] = 250
    return planes, extractor(planes)


@pytest.mark.numerical
@pytest.mark.parametrize("spec", [HeadSpec("svm"), HeadSpec("svm", "rbf")], ids=["linear", "rbf"])
def test_a_head_on_alexnet_is_explained_with_the_scores_it_gives(extractor, embedded, spec):
    planes, embeddings = embedded
    parameters = {"C": 1e-4} if spec.kernel is None else {"C": 10.0, "gamma": 1e-4}
    names = np.array(["bleed", "normal"] * 8)
    head = CalibratedHead(spec.build(**parameters), classes=("normal", "bleed"), cv=2).fit(embeddings, names)
    model = explain_extractor(extractor, head)
    expected = head.decision_function(embeddings)
    np.testing.assert_allclose(model.scores(planes), expected, atol=1e-4 * np.abs(expected).max())
    evidence = model.maps(planes[:1])[0]
    assert evidence.shape == (13, 13)
    y, x = np.unravel_index(model.on_slice(evidence, 227, 227).argmax(), (227, 227))
    assert 44 <= y <= 136
    assert 44 <= x <= 136
    if spec.kernel is None:
        # Linear but for max-pooling and ReLU: the evidence and the constant terms are the score.
        scaler, classifier = head.estimator_[0], head.estimator_[-1]
        assert isinstance(scaler, StandardScaler)
        constant = classifier.intercept_[0] - classifier.coef_[0] @ (scaler.mean_ / scaler.scale_)
        assert evidence.sum() + constant == pytest.approx(model.scores(planes[:1])[0], abs=1e-3)


@pytest.mark.numerical
@pytest.mark.parametrize("windows", [1, 3])
@pytest.mark.parametrize("both", [False, True], ids=["once", "mirrored"])
def test_activations_are_those_of_the_plain_layers(extractor, both, windows):
    """Gray levels go into conv1 as they are, and the weights behind it are laid out once."""
    below, layers, _ = _parts(extractor)
    if both:
        below, _ = both_sides(below, layers, cut=True)
    plain = nn.Sequential(*below)
    planes = np.stack([planes_of_noise(3, seed=seed) for seed in range(windows)], axis=1)
    images = torch.from_numpy(planes).float() / 255
    mean, std = (torch.tensor(own).view(1, 3, 1, 1) for own in (extractor.mean, extractor.std))
    with torch.no_grad():
        expected = plain((images - mean) / std)
    shown = planes[:, 0] if windows == 1 else planes
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.03)):
        quick = Activations(plain, 227, extractor.mean, extractor.std, dtype)
        for some in (slice(0, 2), slice(2, 3)):
            torch.testing.assert_close(
                quick(shown[some]), expected[some], rtol=0, atol=tolerance * float(expected.max())
            )


def test_an_average_in_half_precision_moves_maps_by_little(extractor, embedded):
    planes, embeddings = embedded
    head = CalibratedHead(HeadSpec("svm").build(C=1e-4), cv=2).fit(embeddings, np.array(["a", "b"] * 8))
    exact, half = (explain_extractor(extractor, head) for _ in range(2))
    half.average_dtype = torch.bfloat16
    exact.references = half.references = planes[4:]
    before, after = (model.maps(planes[:4], "contrast") for model in (exact, half))
    assert 0 < np.abs(after - before).max() < 0.03 * np.abs(before).max()
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.9995
    # The slices themselves are seen as before.
    np.testing.assert_array_equal(half.maps(planes[:4]), exact.maps(planes[:4]))


@pytest.mark.parametrize("layer", ["pool3", "pool4"])
def test_a_head_that_sees_mirror_images_is_explained_by_both(layer):
    once = load_extractor(resolve_weights("random", 0, layer), layer, "float32", "cpu", batch=4)
    both = MirroredExtractor(once)
    planes = planes_of_noise(12)
    planes[::2, 60:120, 30:90] = 250
    names = np.array(["bleed", "normal"] * 6)
    head = CalibratedHead(HeadSpec("svm").build(C=1e-4), classes=("normal", "bleed"), cv=2)
    head.fit(both(planes), names)
    model = explain_extractor(both, head)
    expected = head.decision_function(both(planes))
    np.testing.assert_allclose(model.scores(planes), expected, atol=1e-4 * np.abs(expected).max())
    as_is, flipped = model.maps(planes[:2]), model.maps(mirrored(planes[:2]))
    np.testing.assert_allclose(flipped, as_is[:, :, ::-1], atol=1e-4 * np.abs(as_is).max())
    scaler, classifier = head.estimator_[0], head.estimator_[-1]
    constant = classifier.intercept_[0] - classifier.coef_[0] @ (scaler.mean_ / scaler.scale_)
    assert as_is[0].sum() + constant == pytest.approx(model.scores(planes[:1])[0], abs=1e-3)
    y, x = np.unravel_index(model.on_slice(as_is[0], 227, 227).argmax(), (227, 227))
    assert 44 <= y <= 136
    assert 14 <= x <= 106


@pytest.mark.parametrize(
    ("name", "augment"),
    [("lenet", ("crop",)), ("tinyvgg", ()), ("cnn", ("rotate",)), ("finetune", ("crop",))],
)
def test_networks_are_explained_with_the_scores_they_give(name, augment):
    recipe = recipe_for(name)
    facts = {"settings": recipe.settings.with_options(augment=augment).describe()}
    network = build(name, 2, seed=1, trunk=True)
    trained = TrainedNetwork(network, recipe, ("normal", "bleed"), facts)
    planes = planes_of_noise(2, trained.plane_size)
    expected = trained.head().decision_function(trained.logits(planes))
    model = explain_network(trained)
    np.testing.assert_allclose(model.scores(planes), expected, atol=1e-5 + 1e-4 * np.abs(expected).max())
    assert np.isfinite(model.maps(planes)).all()
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_randomised_models_answer_otherwise_and_leave_the_original(extractor, embedded):
    planes, embeddings = embedded
    names = np.array(["bleed", "normal"] * 8)
    head = CalibratedHead(HeadSpec("softmax").build(C=1e-4), cv=2).fit(embeddings, names)
    model = explain_extractor(extractor, head)
    before = model.maps(planes[:2])
    drawn, again, network_kept = randomised(model, 1), randomised(model, 1), randomised(model, 1, True)
    np.testing.assert_array_equal(drawn.maps(planes[:2]), again.maps(planes[:2]))
    assert not np.allclose(drawn.maps(planes[:2]), network_kept.maps(planes[:2]))
    assert np.corrcoef(network_kept.maps(planes[:2]).ravel(), before.ravel())[0, 1] < 0.9
    np.testing.assert_array_equal(model.maps(planes[:2]), before)


def test_what_is_not_there_is_named():
    model = small_model()
    with pytest.raises(BadSettings, match=r"there is no method 'lime'\. There are: contrast, hirescam"):
        model.maps(spot(10, 10)[None], "lime")
    with pytest.raises(BadSettings, match=r"there is no class 'maybe'\. There are: no, yes"):
        model.maps(spot(10, 10)[None], target="maybe")


def test_of_several_classes_the_least_probably_normal_slices_come_first():
    """Whatever bleed they show, and wherever normal stands among the classes."""
    for classes in (
        ("epidural", "normal", "subdural"),
        ("normal", "other", "subdural"),
        ("any", "ich", "no"),
    ):
        p = make_predictions(classes=classes)
        normal = next(one for one, name in enumerate(classes) if name in ("normal", "no"))
        rest = np.delete(p.probabilities, normal, axis=1).sum(axis=1)
        assert (np.diff(rest[likeliest(p)]) <= 1e-12).all()


def test_where_no_class_is_normal_the_surest_slices_come_first():
    p = make_predictions(classes=("epidural", "subarachnoid", "subdural"))
    assert (np.diff(p.probabilities.max(axis=1)[likeliest(p)]) <= 0).all()


def test_of_two_classes_the_most_probably_positive_slices_come_first():
    p = make_predictions(classes=("normal", "bleed"))
    assert (np.diff(p.probabilities[likeliest(p)]) <= 0).all()
    p = make_predictions(classes=("bleed", "normal"))
    assert (np.diff(p.probabilities[likeliest(p)]) <= 0).all()
