"""The surface in closed form, steps that are never too long, thresholds from known norms."""

import pytest
import torch

from recurra.errors import ArgumentError
from recurra.insight import OneUnit, descend, suggest_threshold


def test_the_linear_surface_has_its_closed_form():
    unit = OneUnit(steps=9, start=0.7, target=0.3, activation="identity")
    w, b = torch.rand(2, 40, dtype=torch.float64) * 1.6 - 0.8
    h = w**9 * 0.7 + b * (1 - w**9) / (1 - w)
    torch.testing.assert_close(unit.error(w, b), (h - 0.3).square())
    slope = 9 * w**8 * 0.7 + b * ((1 - w**9) / (1 - w) ** 2 - 9 * w**8 / (1 - w))
    dw, db = unit.gradient(w, b)
    torch.testing.assert_close(dw, 2 * (h - 0.3) * slope)
    torch.testing.assert_close(db, 2 * (h - 0.3) * (1 - w**9) / (1 - w))


def test_the_sigmoid_surface_is_the_recurrence():
    unit = OneUnit(steps=3)
    h = torch.tensor(0.5, dtype=torch.float64)
    for _ in range(3):
        h = 2.0 * h.sigmoid() - 1.0
    error = unit.error(torch.tensor(2.0).double(), torch.tensor(-1.0).double())
    assert float(error) == pytest.approx(float((h.sigmoid() - 0.7) ** 2), rel=1e-12)


@pytest.mark.parametrize("threshold", [0.05, 0.2, 1.0])
def test_no_clipped_step_is_longer_than_rate_times_threshold(threshold):
    unit, rate = OneUnit(), 0.3
    free = descend(unit, (5.0, -2.0), rate=rate, steps=60)
    clipped = descend(unit, (5.0, -2.0), rate=rate, steps=60, threshold=threshold)
    assert free.longest_step > rate  # it flies off the cliff
    assert clipped.longest_step <= rate * threshold * (1 + 1e-12)
    assert clipped.clipped == int((clipped.norms > threshold).sum()) > 0


def test_clipping_keeps_the_direction_and_leaves_short_gradients_alone():
    unit = OneUnit(steps=1, start=1.0, target=0.0, activation="identity")
    free = descend(unit, (3.0, 1.0), rate=0.1, steps=1)
    clipped = descend(unit, (3.0, 1.0), rate=0.1, steps=1, threshold=0.5)
    moves = [path.points[1] - path.points[0] for path in (free, clipped)]
    torch.testing.assert_close(moves[0] / moves[0].norm(), moves[1] / moves[1].norm())
    loose = descend(unit, (3.0, 1.0), rate=0.1, steps=1, threshold=100.0)
    assert torch.equal(loose.points, free.points)


def test_the_suggestion_comes_from_the_later_half():
    assert suggest_threshold([100.0] * 50 + [1.0] * 50) == 1.0
    with pytest.raises(ArgumentError, match="no gradient norms"):
        suggest_threshold([])


def test_the_command_shows_that_clipping_helps_here(inspect):
    _, figures = inspect("clipping")
    free, clipped = figures["paths"]["free"], figures["paths"]["clipped"]
    assert clipped["errors"][-1] < free["errors"][-1]
    assert clipped["longest_step"] <= 0.3 * 0.05 * (1 + 1e-12)
    assert free["largest_norm"] > 10 * 0.05


def test_the_command_reads_the_norms_of_a_run(inspect, lstm_run):
    _, figures = inspect("clipping", lstm_run)
    norms = figures["norms"]
    assert 0 < norms["median"] <= norms["percentile_95"] <= norms["largest"]
    assert norms["threshold"] > 0
    assert 0 <= norms["clipped_share"] <= 1


def test_bad_requests_are_refused(refused, ngram_run, tmp_path):
    assert "must be above 0" in refused("clipping", "--threshold", 0)
    assert "must be above 0" in refused("clipping", "--steps", 0)
    assert "no gradient norms" in refused("clipping", ngram_run)
    assert "not a folder" in refused("clipping", tmp_path / "none")


def test_a_damaged_log_is_named(refused, lstm_run, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text((lstm_run / "config.yaml").read_text())
    (run / "log.csv").write_text("step,gradient_norm\n1,much\n")
    assert "log.csv is damaged" in refused("clipping", run)
