"""cluster: known groups and number come back, same seed same clusters; models: stored, refused when changed; stream;
segmentation; vectors: bad input"""

from datetime import date

import numpy as np
import pytest

from offchain.clustering.model import ClusterModel
from offchain.clustering.segmentation import Segmenter, train_segmenter
from offchain.clustering.selection import ALGORITHMS, cluster, validity
from offchain.clustering.stream import StreamClusterer
from offchain.clustering.vectors import Normalisation, Scale, normalised, scale_rows, scale_vector
from offchain.domain.errors import DomainError, PermanentError
from offchain.profiling.days import day_curves
from tests.offchain.profiling.series import history

AT = np.arange(96)
SHAPES = np.array([np.exp(-(((AT - peak) / 8.0) ** 2)) + 0.2 for peak in (30, 50, 75)])


def curves(count: int, seed: int = 1, groups: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Noisy curves of any size, and the shape of each."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, groups, count)
    size = rng.uniform(50, 5_000, (count, 1))
    return SHAPES[truth] * size * rng.lognormal(0, 0.25, (count, 96)), truth


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    return len({(x, y) for x, y in zip(a, b, strict=True)}) == len(set(a)) == len(set(b))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_cluster_finds_groups_and_their_number(algorithm):
    rows, truth = curves(300)
    found = cluster(rows, algorithms=[algorithm], counts=range(2, 7))
    assert len(found.model.centres) == 3
    assert same_partition(found.labels, truth)


def test_cluster_compares_all_algorithms_and_numbers():
    found = cluster(curves(200)[0], counts=(2, 3, 4))
    assert len(found.table) == 9 and found.table.iloc[0].clusters == 3
    assert found.table.columns.tolist()[:2] == ["algorithm", "clusters"]
    assert found.model.sizes.tolist() == sorted(found.model.sizes, reverse=True)
    assert found.model.scores["silhouette"] > 0.5


def test_cluster_gives_the_same_when_the_seed_is_the_same():
    rows, _ = curves(4_000)
    first, again = (cluster(rows, seed=4, counts=(3,), algorithms=["kmeans"]) for _ in range(2))
    assert first.model.identifier == again.model.identifier
    assert (first.labels == again.labels).all()


def test_cluster_takes_zero_negative_and_constant_curves():
    rows = np.concatenate([curves(60)[0], -curves(60)[0], np.zeros((20, 96)), np.full((20, 96), 300.0)])
    found = cluster(rows, counts=(2, 3, 4))
    assert np.isfinite(found.model.centres).all()


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        (np.zeros(96), {}, r"shape \(96,\), expected \(n, width\)"),
        (
            np.array([[1.0, np.nan], [1.0, 2.0]]),
            {},
            "1 of 2 curves have missing .* the first is row 0",
        ),
        (np.zeros((50, 96)), {}, "1 different curves, too few"),
        (curves(50)[0], {"counts": (1, 2)}, "at least 2"),
        (curves(50)[0], {"counts": ()}, "at least 2"),
        (curves(50)[0], {"algorithms": ["dbscan"]}, "unknown algorithm 'dbscan'"),
        (np.zeros((0, 96)), {}, "0 different curves"),
    ],
)
def test_cluster_says_what_is_wrong(rows, arguments, message):
    with pytest.raises(DomainError, match=message):
        cluster(rows, **arguments)


def test_normalised_takes_size_away_but_not_sign():
    rows = np.array([[1.0, 3.0], [10.0, 30.0], [-1.0, -3.0], [0.0, 0.0]])
    shape = normalised(rows, Normalisation.SHAPE)
    assert shape.tolist() == [[0.5, 1.5], [0.5, 1.5], [-0.5, -1.5], [0.0, 0.0]]
    assert normalised(np.full((1, 4), 0.1), Normalisation.SPREAD).tolist() == [[0.0] * 4]
    assert normalised(rows, Normalisation.NONE).tolist() == rows.tolist()


# models on disk


@pytest.fixture(scope="module")
def model() -> ClusterModel:
    return cluster(curves(400)[0], counts=(3,), seed=2).model


def test_load_gives_back_what_was_saved(model, tmp_path):
    model.save(tmp_path / "clusters.npz")
    loaded = ClusterModel.load(tmp_path / "clusters.npz")
    assert loaded.identifier == model.identifier
    rows, _ = curves(50, seed=9)
    assert (loaded.assign(rows) == model.assign(rows)).all()


def test_load_refuses_what_was_changed(model, tmp_path):
    path = tmp_path / "clusters.npz"
    model.save(path)
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["centres"][0, 0] += 1
    np.savez(path, **arrays)
    with pytest.raises(PermanentError, match="was changed after it was written"):
        ClusterModel.load(path)


def test_load_refuses_pickled_objects(tmp_path):
    path = tmp_path / "clusters.npz"
    np.savez(path, head=np.array([{"kind": "clusters"}], dtype=object))
    with pytest.raises(PermanentError, match="is not a stored model"):
        ClusterModel.load(path)


def test_load_refuses_other_kinds_and_rubbish(model, tmp_path):
    model.save(tmp_path / "clusters.npz")
    with pytest.raises(PermanentError, match="holds clusters of format 1, expected segmenter"):
        Segmenter.load(tmp_path / "clusters.npz")
    (tmp_path / "text.npz").write_text("no model")
    with pytest.raises(PermanentError, match="is not a stored model"):
        ClusterModel.load(tmp_path / "text.npz")
    with pytest.raises(PermanentError, match="does not exist"):
        ClusterModel.load(tmp_path / "absent.npz")


def test_assign_refuses_curves_of_another_width(model):
    with pytest.raises(DomainError, match=r"expected \(n, 96\)"):
        model.assign(np.ones((2, 24)))


# batch after batch


def test_stream_follows_what_it_sees(model):
    stream = StreamClusterer(model)
    rows, truth = curves(2_000, seed=7)
    for batch in np.split(rows, 8):
        stream.update(batch)
    assert stream.model.sizes.sum() == model.sizes.sum() + 2_000
    assert same_partition(stream.model.assign(rows), truth)
    assert not np.array_equal(stream.model.centres, model.centres)


def test_stream_centre_is_the_mean_of_all_it_got(model):
    stream = StreamClusterer(model)
    rows, _ = curves(500, seed=8)
    labels = stream.update(rows)
    unit = normalised(rows, model.normalisation)
    for k, centre in enumerate(stream.model.centres):
        mean = (model.centres[k] * model.sizes[k] + unit[labels == k].sum(axis=0)) / stream.model.sizes[k]
        np.testing.assert_allclose(centre, mean, atol=1e-4)


def test_stream_goes_on_from_a_stored_model_as_if_never_stopped(model, tmp_path):
    first, second = (curves(500, seed=s)[0] for s in (10, 11))
    whole = StreamClusterer(model)
    whole.update(first)
    whole.model.save(tmp_path / "m.npz")
    resumed = StreamClusterer(ClusterModel.load(tmp_path / "m.npz"))
    assert (resumed.update(second) == whole.update(second)).all()
    np.testing.assert_allclose(resumed.model.centres, whole.model.centres, atol=1e-5)
    assert (resumed.model.sizes == whole.model.sizes).all()


def test_stream_takes_an_empty_batch(model):
    stream = StreamClusterer(model)
    assert stream.update(np.empty((0, 96))).size == 0
    assert stream.model.sizes.sum() == model.sizes.sum()


# new customers


def test_segmenter_puts_new_customers_into_their_cluster(model, tmp_path):
    rows, _ = curves(400)
    network = train_segmenter(rows, model.assign(rows), model=model.identifier, seed=3)
    assert network.accuracy > 0.95
    new, _ = curves(200, seed=20)
    network.save(tmp_path / "segmenter.npz")
    segments = Segmenter.load(tmp_path / "segmenter.npz").segment(new)
    assert (segments.cluster == model.assign(new)).mean() > 0.97
    assert (segments.probability > 0).all() and (segments.probability <= 1).all()


def test_segmenter_gives_the_same_when_the_seed_is_the_same(model):
    rows, _ = curves(200)
    first, again = (train_segmenter(rows, model.assign(rows), model="m", seed=5) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first.weights, again.weights, strict=True))


def test_segmenter_agrees_with_the_library_when_there_are_two_clusters():
    rows, truth = curves(120, groups=2)
    network = train_segmenter(rows, truth, model="m")
    assert network.segment(rows).cluster.tolist() == truth.tolist()


def test_segmenter_uses_attributes_that_curves_do_not_show():
    rows, _ = curves(300, groups=1)
    answers = np.random.default_rng(0).integers(0, 2, 300)
    network = train_segmenter(rows, answers, model="m", attributes=answers[:, None].astype(float))
    assert network.accuracy > 0.95
    with pytest.raises(DomainError, match="0 attributes, trained with 1"):
        network.segment(rows)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(50, dtype=int), "two or more are needed"),
        (np.array([0] * 47 + [1] * 3), r"clusters of \[47, 3\] customers"),
        (np.zeros(9, dtype=int), "50 curves but labels of shape"),
    ],
)
def test_train_segmenter_says_what_is_wrong(labels, message):
    with pytest.raises(DomainError, match=message):
        train_segmenter(curves(50)[0], labels, model="m")


# scales


def test_scale_vector_by_hand():
    # Monday 4 to Sunday 10 January 2016: every quarter hour of day d is d, so an hour is 4 d
    week = day_curves(history(date(2016, 1, 4), date(2016, 1, 10), lambda at: at // 96))
    assert scale_vector(week, Scale.DAILY)[[0, 24]].tolist() == [8.0, 22.0]
    assert scale_vector(week, Scale.WEEKLY)[::24].tolist() == [0.0, 4.0, 8.0, 12.0, 16.0, 20.0, 24.0]
    assert scale_vector(week, Scale.MONTHLY).shape == (288,)
    assert set(scale_vector(week, Scale.MONTHLY)) == {12.0}


def test_scale_rows_goes_on_when_one_connection_has_too_few_days():
    week = day_curves(history(date(2016, 1, 4), date(2016, 1, 10)))
    one_day = day_curves(history(date(2016, 2, 29), date(2016, 2, 29)))
    names, rows, unusable = scale_rows({"a": week, "b": one_day}, Scale.WEEKLY)
    assert names == ["a"] and rows.shape == (1, 168)
    assert unusable["b"].startswith("no Tuesdays among 1 complete days")


def test_scale_rows_raises_when_no_connection_is_usable():
    one_day = day_curves(history(date(2016, 2, 29), date(2016, 2, 29)))
    with pytest.raises(DomainError, match="none of 1 connections"):
        scale_rows({"b": one_day}, Scale.DAILY)


def test_validity_by_hand():
    # 0 and 1, 10 and 11: distances within a cluster 1, to the other one 10.5 and 9.5; the spread is 0.5, the centres
    # are 10 apart; between 4 * 5^2 = 100 with one degree of freedom, within 4 * 0.25 = 1 with two
    found = validity(np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([0, 0, 1, 1]))
    assert found["silhouette"] == pytest.approx((9.5 / 10.5 + 8.5 / 9.5) / 2)
    assert found["davies_bouldin"] == pytest.approx(0.1)
    assert found["calinski_harabasz"] == pytest.approx(200)
